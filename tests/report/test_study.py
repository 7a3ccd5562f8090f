"""What a study's page says."""

import copy
import json
import re
from types import ModuleType
from typing import Any

import pytest

from dropkit.errors import DropkitError
from dropkit.report.page import render
from dropkit.report.study import VERDICTS, headline, study_view


def words(page: str) -> str:
    """The page's text without its scripts and style, spaces collapsed."""
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_verdict_comes_first_then_the_command_then_the_table(study: dict[str, Any]) -> None:
    text = words(render(study))
    places = [
        text.index(part)
        for part in (
            "Dropout pays here",
            "What to do now",
            "dropkit train digits --dropout",
            "Results on 360",
        )
    ]
    assert places == sorted(places)


def test_the_table_holds_values_intervals_and_p(study: dict[str, Any]) -> None:
    study["policies"][2]["metrics"]["error"] = {
        "mean": 0.0712,
        "low": 0.061,
        "high": 0.0823,
        "unit": "fraction",
    }
    text = words(render(study))
    for part in (
        "7.12\xa0%",
        "6.10 to 8.23",
        "−3.12\xa0pp",
        "−4.22 to −2.02",
        "0.004",
        "helps",
        "recommended",
    ):
        assert part in text


@pytest.mark.parametrize("kind", VERDICTS)
def test_every_verdict_has_its_chip(study: dict[str, Any], kind: str) -> None:
    study["policies"][1]["verdict"]["kind"] = kind
    assert f'<span class="chip {kind}">{VERDICTS[kind]}</span>' in render(study)


def test_a_study_judged_by_nll_shows_nats(study: dict[str, Any]) -> None:
    study["metric"] = "nll"
    study["policies"][2]["verdict"].update(difference=-0.25, low=-0.3, high=-0.2)
    text = words(render(study))
    assert "−0.250\xa0nats" in text
    assert "−0.300 to −0.200" in text
    assert "Difference in test loss (NLL) to none" in text


def test_a_study_judged_by_the_balanced_error_is_in_percent(study: dict[str, Any]) -> None:
    study["metric"] = "balanced-error"
    study["policies"][2]["metrics"]["balanced_error"] = {"mean": 0.0777, "low": 0.07, "high": 0.09}
    page = render(study)
    text = words(page)
    assert "Difference in balanced test error to none" in text
    assert "in balanced error" in text
    assert "−3.12\xa0pp" in text
    assert re.search(r'data-label="Balanced error" class="main">7.77\xa0%', page)
    assert next(tile["head"] for tile in study_view(study)["tiles"]) == "balanced test error"
    assert "7.00 to 9.00" in text


def test_the_balanced_error_has_a_column_only_where_it_is_known(study: dict[str, Any]) -> None:
    assert "Balanced error" in words(render(study))
    for policy in study["policies"]:
        del policy["metrics"]["balanced_error"]
    assert "Balanced error" not in words(render(study))


def test_what_makes_the_test_pictures_doubtful_is_said(study: dict[str, Any]) -> None:
    clean = words(render(study))
    study["data"].update(duplicates=3, skipped=1)
    study["look_count"] = 4
    text = words(render(study))
    for part in ("3 test pictures are byte for byte", "1 file is skipped", "looked at 4 times"):
        assert part in text
        assert part not in clean
    study["look_count"] = 1
    assert "looked at" not in words(render(study))


def test_folds_are_told_from_seeds(study: dict[str, Any]) -> None:
    study["folds"] = {"k": 5, "repetitions": 2}
    for place, run in enumerate(study["runs"]):
        run["fold"] = f"{place % 5 + 1}/5"
    text = words(render(study))
    for part in (
        "Results on each of 5 folds in turn",
        "15 runs, 5 folds × 2 repetitions",
        "one of 5 folds, 2 times",
        "Nadeau and Bengio 2003",
        "2/5",
    ):
        assert part in text
    assert "5 seeds a policy" not in text


def test_long_policies_break_after_their_commas(study: dict[str, Any]) -> None:
    assert "input=0.1,<wbr>conv[0]=0.25,<wbr>conv[1]=0.25,<wbr>fc=0.5 lowers the test error" in render(study)


def test_what_narrows_the_interval_is_said(study: dict[str, Any]) -> None:
    assert "a larger test set would narrow it most" in words(render(study))
    for policy in study["policies"][1:]:
        policy["verdict"].update(from_seeds=0.9, from_pictures=0.1)
    assert "more seeds would narrow it most" in words(render(study))


@pytest.mark.parametrize("kind", ["undertrained", "none", "diverged"])
def test_nothing_is_recommended_where_nothing_was_decided(study: dict[str, Any], kind: str) -> None:
    assert "recommended" in words(render(study))
    for policy in study["policies"][1:]:
        policy["verdict"]["kind"] = kind
    assert "recommended" not in words(render(study))


def test_the_advice_is_not_said_twice(study: dict[str, Any]) -> None:
    study["verdict"] = f"Too little training to judge. {study['recommendation']['sentence']}"
    assert words(render(study)).count(study["recommendation"]["sentence"]) == 1


def test_where_the_first_policy_is_recommended_the_best_other_stands_beside_it(study: dict[str, Any]) -> None:
    study["recommendation"]["policy"] = "none"
    view = study_view(study)
    assert [tile["name"] for tile in view["tiles"]] == ["none", study["policies"][2]["name"], "", ""]


def test_a_diverged_policy_shows_dashes_and_leaves_the_forest(study: dict[str, Any], synthetic: ModuleType) -> None:
    bad = study["policies"][2]
    bad.update(n=0, diverged=5, verdict=synthetic.verdict("diverged", "All runs diverged.", None))
    bad["metrics"] = {name: {"mean": None, "low": None, "high": None} for name in bad["metrics"]}
    for run in study["runs"]:
        if run["policy"] == bad["name"]:
            run["status"] = "diverged"
            run["epochs"] = [{**run["epochs"][0], "train_loss": None, "val_loss": None}]
    text = words(render(study))
    assert "5 diverged" in text
    assert "5 runs diverged" in text
    assert "nan" not in text.lower().split()
    assert "n = runs a policy (none 5, fc=0.5 5," in text


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_losses_that_are_not_finite_leave_holes(study: dict[str, Any], value: float | None) -> None:
    for run in study["runs"][:3]:
        run["epochs"][4].update(val_loss=value, train_loss=value, val_error=value)
        run["summary"].update(gap=value, test={"error": value, "nll": value, "ece": value})
    page = render(study)
    figures = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert figures is not None
    json.loads(figures[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_one_seed(synthetic: ModuleType) -> None:
    record = synthetic.study(seeds=1)
    for policy in record["policies"]:
        for metric in policy["metrics"].values():
            metric.update(low=None, high=None)
        if policy["verdict"]:
            policy["verdict"].update(low=None, high=None, p_value=None, p_holm=None, from_seeds=None)
    text = words(render(record))
    assert "3 runs, 1 seed" in text
    assert "None" not in text
    assert "a mean is drawn" not in text
    assert "more seeds do" in text
    assert "Below each mean" not in text


PARTS = ["data", "config", "environment", "runs", "seeds", "command", "seconds", "recommendation", "verdict"]


@pytest.mark.parametrize("missing", [*([part] for part in PARTS), PARTS], ids=" ".join)
def test_a_record_may_lack_parts(study: dict[str, Any], missing: list[str]) -> None:
    for part in missing:
        del study[part]
    assert "None" not in words(render(study))


def test_a_record_may_hold_null_parts(study: dict[str, Any]) -> None:
    study.update(dict.fromkeys(PARTS))
    assert "None" not in words(render(study))


def test_policies_may_lack_everything_but_their_name(study: dict[str, Any]) -> None:
    study["policies"] = [{"name": "none"}, {"name": "fc=0.5", "verdict": {"kind": "none"}}]
    text = words(render(study))
    assert "None" not in text
    assert "no clear difference" in text


def test_a_study_without_policies_is_refused(study: dict[str, Any]) -> None:
    study["policies"] = []
    with pytest.raises(DropkitError, match=r"must list its 'policies'.*study\.json"):
        render(study)


def test_rendering_changes_nothing_in_the_record_and_repeats_itself(study: dict[str, Any]) -> None:
    before = copy.deepcopy(study)
    first = render(study)
    assert study == before
    assert render(study) == first


def test_the_footer_holds_data_configuration_and_environment(study: dict[str, Any]) -> None:
    study["environment"]["gpu"] = ["a", "b"]
    text = words(render(study))
    for part in (
        "1,797",
        "8 × 8 × 1",
        "1,077 train, 360 val, 360 test",
        "batch_size",
        "2.13.0",
        "13 min 32 s",
    ):
        assert part in text
    assert "dropkit compare digits --policies none fc=0.5" in text


def test_a_headline_is_the_first_sentence() -> None:
    assert headline("Dropout at fc=0.5 pays. It does.") == ("Dropout at fc=0.5 pays.", "It does.")
    assert headline("No. It does not pay here.") == ("No. It does not pay here.", "")
    assert headline("One sentence, no more") == ("One sentence, no more", "")


def test_an_interval_without_width_has_nothing_to_narrow(study: dict[str, Any]) -> None:
    for policy in study["policies"][1:]:
        policy["verdict"].update(difference=0.0, low=0.0, high=0.0, from_seeds=0.5, from_pictures=0.5)
    assert "would narrow it most" not in words(render(study))


def test_intervals_are_said_to_be_cut(study: dict[str, Any]) -> None:
    assert "cut off where it would reach what cannot be" in words(render(study))


def test_looks_are_no_caution_where_nothing_was_judged(study: dict[str, Any]) -> None:
    study["look_count"] = 4
    for policy in study["policies"][1:]:
        policy["verdict"]["kind"] = "undertrained"
    assert "looked at 4 times" not in words(render(study))


def test_lists_in_the_data_are_words_not_json(study: dict[str, Any]) -> None:
    study["data"].update(class_names=["cat", "dog"], mean=[0.123456, 0.5], std=[0.25])
    text = words(render(study))
    assert "cat, dog" in text
    assert "0.123, 0.5" in text
    assert "0.123456" not in text
    assert '["cat"' not in text


def test_the_tab_that_the_confusion_sentence_speaks_of_is_open(full_study: dict[str, Any]) -> None:
    full_study["details"]["pictures"]["policy"] = full_study["policies"][2]["name"]
    page = render(full_study)
    opened = [part.split("</button>")[0] for part in page.split('id="tab-confusion-')[1:]]
    assert [index for index, part in enumerate(opened) if 'aria-selected="true"' in part] == [2]
    panes = [part.split(">")[0] for part in page.split('id="pane-confusion-')[1:]]
    assert [index for index, part in enumerate(panes) if "hidden" not in part] == [2]
