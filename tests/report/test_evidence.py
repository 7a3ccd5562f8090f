"""The section on evidence: its words and figures are the record's; what is not known is left out, names stay text."""

import json
import re

import pytest

from dropkit.report.evidence import evidence_block
from dropkit.report.page import render
from dropkit.report.palette import BASELINE, colour, policy_colours
from dropkit.studies.evidence.comparison import compared

EVIL = "</script><img src=x onerror=alert(1)>\"'\n\u202e"
FIRST, SECOND = "none", "fc=0.5"


@pytest.fixture
def values(evidence_of):
    """Make the record of three seeds of two policies, or of the groups that are given."""

    def make(groups=None, **changes):
        if groups is None:
            drops = [
                [evidence_of.layer(rate=0.5, excess=excess, cost=0.01, zero=0.6, mean=0.5)]
                for excess in (0.02, 0.03, 0.04)
            ]
            groups = {
                FIRST: [evidence_of("none", gap=gap) for gap in (0.5, 0.8, 0.7)],
                SECOND: [
                    evidence_of("fc=0.5", gap=gap, layers=layer)
                    for gap, layer in zip((0.1, 0.2, 0.3), drops, strict=True)
                ],
            }
        return {"pictures": 11, "of": 13, "halves": 10, "draws": 20, "policies": compared(groups), **changes}

    return make


@pytest.fixture
def block(values):
    found = evidence_block({"evidence": values()})
    assert found is not None
    return found


def drawn(page):
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def traces(block, panel):
    (figure,) = (each.figure for each in block.all_panels() if each.id == panel)
    return figure.to_plotly_json()["data"]


def test_without_evidence_there_is_no_section(values):
    for record in ({}, {"evidence": None}, {"evidence": {}}, {"evidence": values(policies=[])}):
        assert evidence_block(record) is None


def test_it_has_a_tab_for_each_question(block):
    assert [pane.tab for pane in block.panes] == ["Co-adaptation", "Activations", "Thinned networks", "Weights"]
    assert [panel.id for panel in block.all_panels()] == [
        "evidence-correlation",
        "evidence-silenced",
        "evidence-fc-0-activations",
        "evidence-fc-0-units",
        "evidence-errors",
        "evidence-apart",
        "evidence-weights",
    ]


def test_the_words_count_what_is_shown(block, values):
    assert block.finding == "fc=0.5: 5 of 5 claims are shown."
    ((name, _, said),) = block.claims
    assert name == SECOND
    assert [each.word for each in said] == ["shown"] * 5 + [""]  # the ensemble is measured, not judged
    assert said[0].head == "Less overfitting."
    (_, thinned) = values()["policies"]
    assert [each.told for each in said] == [claim["told"] for claim in thinned["claims"]]


def test_the_opposite_is_counted_for_itself(evidence_of, values):
    groups = {
        FIRST: [evidence_of("none", gap=gap) for gap in (0.1, 0.11, 0.12)],
        SECOND: [evidence_of("fc=0.5", gap=gap, one=0.2, average=0.2) for gap in (0.8, 0.9, 0.85)],
    }
    found = evidence_block({"evidence": values(groups)})
    assert "of 1 the opposite is" in found.finding
    assert {each.kind for each in found.claims[0][2]} == {"opposite", "open"}


def test_what_the_study_does_not_judge_is_not_counted(evidence_of, values):
    groups = {name: [evidence_of(name, gap=gap) for gap in (0.5, 0.6, 0.7)] for name in (FIRST, SECOND)}
    record = values() | {"policies": compared(groups, undertrained={SECOND})}
    found = evidence_block({"evidence": record})
    assert found.finding.startswith("Nothing is judged: the study finds its policies not trained long enough.")
    assert [each.word for each in found.claims[0][2]] == ["not judged"] * 5 + [""]


def test_densities_allow_for_the_width_of_bins(evidence_of, values):
    narrow = evidence_of.layer(rate=0.5, zero=0.0)
    narrow["activity"]["edges"] = [0.0, 0.5, 1.0]
    groups = {
        FIRST: [evidence_of("none", layers=[evidence_of.layer(zero=0.0)])],
        SECOND: [evidence_of("fc=0.5", layers=[narrow])],
    }
    wide, fine = traces(evidence_block({"evidence": values(groups)}), "evidence-fc-0-activations")
    assert list(fine["y"]) == pytest.approx([2 * y for y in wide["y"]])


def test_one_seed_proves_nothing(evidence_of, values):
    two = evidence_block({"evidence": values({FIRST: [evidence_of("none")], SECOND: [evidence_of("fc=0.5")]})})
    assert two.finding.startswith("One run each: here are the numbers, but one seed proves nothing.")
    assert [each.word for _, _, said in two.claims for each in said if each.word] == []
    alone = evidence_block({"evidence": values({FIRST: [evidence_of("none")]})})
    assert "Beside one with dropout they say more: --against." in alone.finding
    assert alone.legend == ""
    assert [pane.tab for pane in alone.panes] == ["Co-adaptation", "Activations", "Weights"]


def test_points_are_the_records_means_with_their_intervals(block, values):
    plain, thinned = values()["policies"]
    first, _, second, _ = traces(block, "evidence-correlation")
    figures = [policy["layers"][0]["figures"]["correlation"] for policy in (plain, thinned)]
    assert [trace["y"][0] for trace in (first, second)] == pytest.approx([each["mean"] for each in figures], abs=1e-4)
    assert second["error_y"]["array"][0] == pytest.approx(figures[1]["high"] - figures[1]["mean"], abs=1e-4)
    silenced, mark, *_ = traces(block, "evidence-silenced")
    assert silenced["y"][0] == pytest.approx(15.0)  # percent
    assert mark["y"][0] == pytest.approx(10.0)  # the error with all units
    one, *_ = traces(block, "evidence-errors")
    assert list(one["y"]) == pytest.approx([20.0, 12.0, 10.0])  # one thinned, their average, all units


def test_activations_are_those_of_the_first_run_at_the_layers_that_drop(evidence_of, values):
    layers = [evidence_of.layer(f"conv[{place}]") for place in range(5)] + [evidence_of.layer("fc[0]", rate=0.5)]
    found = evidence_block({"evidence": values({SECOND: [evidence_of("fc=0.5", layers=layers)]})})
    (pane,) = (pane for pane in found.panes if pane.tab == "Activations")
    assert [panel.id for panel in pane.panels] == ["evidence-fc-0-activations", "evidence-fc-0-units"]
    (trace,) = traces(found, "evidence-fc-0-activations")
    assert (list(trace["x"]), list(trace["y"])) == ([0.5, 1.5], pytest.approx([35.0, 25.0]))  # .4 of the .75 are 0
    (means,) = traces(found, "evidence-fc-0-units")
    assert sum(means["y"]) == pytest.approx(100)


def test_tables_hold_every_number(block, values):
    _, thinned = values()["policies"]
    assert [row[:2] for row in block.table.rows] == [["fc[0]", FIRST], ["fc[0]", SECOND]]
    assert block.table.rows[1][2:4] == ["0.50", "5"]
    assert block.table.rows[1][4].startswith(f"{thinned['layers'][0]['figures']['correlation']['mean']:.3f}")
    assert block.networks.rows[0][5:8] == ["–"] * 3  # without dropout there are no thinned networks
    assert block.networks.rows[1][5].startswith("20.00\u00a0%")


def test_what_has_to_be_known_is_a_note(evidence_of, values):
    noted = {**evidence_of("fc=0.5"), "left_out": ["conv[0]"], "notes": ["sampled one after the other."]}
    signed = evidence_of("none", layers=[evidence_of.layer(rectified=False, zero=None)])
    notes = " ".join(evidence_block({"evidence": values({FIRST: [signed], SECOND: [noted]})}).notes)
    assert "11 of 13 test pictures; runs: none 1, fc=0.5 1." in notes
    assert "none: no thinned networks, because it was trained without dropout." in notes
    assert "fc=0.5: not measured, to keep it short: conv[0]." in notes
    assert "fc=0.5: sampled one after the other." in notes
    assert "no share of zeros is given" in notes


def test_all_pictures_and_some(values):
    assert (
        evidence_block({"evidence": values(of=11)}).notes[0].startswith("All 11 test pictures; runs: none 3, fc=0.5 3.")
    )
    assert evidence_block({"evidence": values(of=1234)}).notes[0].startswith("11 of 1,234 test pictures;")


def test_policies_have_their_colours_of_the_page(study, values):
    names = [policy["name"] for policy in study["policies"]]
    record = {**study, "evidence": values()}
    found = evidence_block(record)
    shades = dict(zip(names, policy_colours(record), strict=True))
    for name, shade in found.named:
        if name in shades:
            assert shade == shades[name]
    alone = evidence_block({"evidence": values()})
    assert [shade for _, shade in alone.named] == [BASELINE, colour(1)]


def test_the_page_of_a_study_has_the_section_and_its_figures(study, values):
    page = render({**study, "evidence": values()})
    assert 'id="evidence"' in page
    assert {"evidence-correlation", "evidence-weights"} <= set(drawn(page))
    assert 'id="evidence"' not in render(study)


def test_hostile_names_stay_text(single_run, evidence_of, values):
    layers = [evidence_of.layer(EVIL, rate=0.5)]
    groups = {EVIL: [evidence_of("fc=0.5", layers=layers)], "b": [evidence_of("fc=0.5", layers=layers)]}
    page = render({**single_run, "evidence": values(groups)})
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert drawn(page)


@pytest.mark.parametrize(
    "broken", [{"layers": []}, {"figures": {}}, {"norms": None}, {"claims": None}, {"layers": [{"name": "fc[0]"}]}]
)
def test_a_record_with_less_in_it_is_shown_as_far_as_it_goes(study, values, broken):
    record = values()
    record["policies"][1] |= broken
    assert drawn(render({**study, "evidence": record}))


def test_what_is_no_number_is_left_out(study, values):
    record = values()
    record["policies"][1]["figures"]["one"] = {"mean": float("nan"), "low": None, "high": None}
    record["policies"][1]["layers"][0]["figures"]["correlation"]["high"] = float("inf")
    assert drawn(render({**study, "evidence": record}))
