"""The record of a reproduction: planted figures are judged as the statistics of a comparison judge them."""

import dataclasses

import numpy as np
import pytest

from dropkit.runs.config import TrainConfig
from dropkit.runs.intervals import mean_interval, mean_p_value
from dropkit.runs.training import load_data, train
from dropkit.studies.recipes.measures import Measured
from dropkit.studies.recipes.recipe import Claim, Measure, PaperValue, Recipe, Row, Sizes, at_most, percent
from dropkit.studies.reproduction_record import reproduction_record, seed_difference
from dropkit.studies.statistics import holm, holm_intervals, paired_difference

SEEDS = 3
PICTURES = 211


def config(policy):
    return TrainConfig(data="digits", model="mlp:8", dropout=policy, epochs=1, threads=1)


def row(name, policy, paper=None, **changes):
    return Row(name=name, config=config(policy), paper=None if paper is None else percent(paper), **changes)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Three runs of each of three policies, none of whose figures counts: they are planted."""
    folder, data = tmp_path_factory.mktemp("runs"), load_data(config("none"))
    made = {}
    for name, policy in (("A", "none"), ("B", "fc=0.1"), ("C", "fc=0.2")):
        configs = [dataclasses.replace(config(policy), seed=s, out=str(folder / f"{name}{s}")) for s in range(SEEDS)]
        made[name] = [train(each, progress=False, page=False, data=data) for each in configs]
    return made


def recipe(*rows, **changes):
    rows = rows or (row("A", "none", 30.0), row("B", "fc=0.1", 20.0), row("C", "fc=0.2", 10.0))
    given = {"paper": "p", "table": "table-1", "budget": "quick", "title": "t", "where": "w", "rows": rows}
    given |= {"pictures": {"digits": Sizes(1, 1)}, "why": "why", "differences": ("d.",)}
    given |= {"claims": (Claim("C", "B"), Claim("B", "A"))}
    return Recipe(**{**given, **changes})


def planted(rates):
    """Return a measuring whose pictures are wrong with a probability of each row's own, and what it gives."""
    rng = np.random.default_rng(5)
    values = {
        (name, seed): (rng.random(PICTURES) < rate).astype(float) for name, rate in rates.items() for seed in range(9)
    }

    def measuring(measure, run, pictures):
        wrong = values[run.folder.name[0], run.config.seed]
        return Measured(float(wrong.mean()), wrong)

    return measuring, values


def record_of(groups, rates, made=None):
    measuring, values = planted(rates)
    return reproduction_record(made or recipe(), groups, {"digits": None}, measuring), values


def test_rows_have_t_intervals_and_agree_only_where_these_contain_the_papers(groups):
    record, values = record_of(groups, {"A": 0.3, "B": 0.28, "C": 0.1})
    for found, name in zip(record["rows"], "ABC", strict=True):
        mean, low, high = mean_interval([values[name, seed].mean() for seed in range(SEEDS)])
        assert (found["mean"], found["low"], found["high"], found["n"]) == (mean, low, high, SEEDS)
        assert found["agrees"] == (low <= found["paper"] <= high)
        assert found["agrees"] == ("agrees with the paper's" in found["sentence"])
    assert [found["agrees"] for found in record["rows"]] == [True, False, True]
    assert "why." in record["rows"][1]["sentence"]


def test_claims_are_paired_over_seeds_and_pictures_and_corrected(groups):
    record, values = record_of(groups, {"A": 0.35, "B": 0.33, "C": 0.05})
    stacks = {name: np.stack([values[name, seed] for seed in range(SEEDS)]) for name in "ABC"}
    differences = [paired_difference(stacks["B"], stacks["C"]), paired_difference(stacks["A"], stacks["B"])]
    told = [(claim["difference"], claim["p_holm"], (claim["low"], claim["high"])) for claim in record["claims"]]
    wanted = zip(differences, holm([d.p_value for d in differences]), holm_intervals(differences), strict=True)
    assert told == [(d.mean, p, ends) for d, p, ends in wanted]
    assert [claim["kind"] for claim in record["claims"]] == ["shown", "not shown"]
    assert record["claims"][0]["sentence"].startswith("Shown: C has a lower test error than B")


def test_the_opposite_and_what_is_alike(groups):
    made = recipe(claims=(Claim("A", "C"), Claim("A", "C", alike=True), Claim("A", "B", alike=True)))
    record, _ = record_of(groups, {"A": 0.35, "B": 0.36, "C": 0.05}, made)
    assert [claim["kind"] for claim in record["claims"]] == ["opposite", "differs", "alike"]


def test_a_figure_of_a_whole_run_is_compared_over_seeds_alone(groups):
    rows = (
        row("mean A", "none", measure=Measure("activation")),
        row("mean C", "fc=0.2", measure=Measure("activation")),
        row("zeros", "none", measure=Measure("zeros")),
    )
    made = recipe(
        dataclasses.replace(rows[0], paper=PaperValue(2.0, about=True)),
        *rows[1:],
        claims=(Claim("mean C", "mean A"),),
    )
    planted = {"A": [2.0, 2.2, 2.1], "C": [0.7, 1.0, 0.6]}

    class Planted:
        def __call__(self, measure, run, pictures):
            return Measured(0.5 if measure.kind == "zeros" else planted[run.folder.name[0]][run.config.seed])

        def activity(self, run):
            return [{"unit_means": [1.0], "edges": [0, 1], "activations": [1.0], "layer": "fc"}]

    of = {"mean-A": groups["A"], "mean-C": groups["C"]}
    record = reproduction_record(made, of, {"digits": None}, Planted())
    claim = record["claims"][0]
    apart = np.subtract(planted["C"], planted["A"])
    assert (claim["difference"], claim["low"], claim["high"]) == pytest.approx(mean_interval(apart))
    assert claim["p_value"] == pytest.approx(mean_p_value(apart), rel=1e-6)
    assert claim["unit"] == "activation"
    assert record["rows"][0]["sentence"] == "mean A: 2.10 ±0.25 (n = 3) agrees with the paper's about 2.00: " + (
        "the interval contains it."
    )
    assert [layer["name"] for layer in record["activity"]] == ["mean A", "mean C"]


def test_the_difference_over_seeds_is_students_t():
    values = [0.3, -0.1, 0.25, 0.4]
    d = seed_difference(values)
    assert (d.mean, d.low, d.high) == pytest.approx(mean_interval(values))
    assert d.p_value == pytest.approx(mean_p_value(values), rel=1e-6)
    assert d.interval(0.99)[0] < d.low


def test_what_is_not_finished_is_left_open(groups):
    made = recipe(marks=(at_most("A", 99.0), at_most("A", 1.0), at_most("C", 99.0)))
    record, _ = record_of({"A": groups["A"], "B": groups["B"][:1]}, {"A": 0.3, "B": 0.2, "C": 0.1}, made)
    a, b, c = record["rows"]
    assert (a["n"], b["n"], b["low"], b["agrees"]) == (3, 1, None, None)
    assert (c["n"], c["mean"], c["sentence"]) == (0, None, "C: no training finished.")
    assert [claim["kind"] for claim in record["claims"]] == ["unknown", "unknown"]
    assert [mark["reached"] for mark in record["marks"]] == [True, False, None]


def test_a_training_that_diverged_is_said_and_left_out(groups):
    lost = dataclasses.replace(groups["A"][1], summary={**groups["A"][1].summary, "status": "diverged"})
    changed = {**groups, "A": [groups["A"][0], lost, groups["A"][2]]}
    record, values = record_of(changed, {"A": 0.3, "B": 0.2, "C": 0.1})
    a = record["rows"][0]
    assert (a["n"], a["diverged"]) == (2, 1)
    assert a["values"] == [values["A", 0].mean(), values["A", 2].mean()]
    assert "1 training diverged and is left out" in a["sentence"]
    paired = paired_difference(*(np.stack([values[name, seed] for seed in (0, 2)]) for name in "AB"))
    assert record["claims"][1]["difference"] == paired.mean


def test_nothing_finished_at_all(groups):
    record, _ = record_of({}, {"A": 0.3, "B": 0.2, "C": 0.1})
    assert [found["n"] for found in record["rows"]] == [0, 0, 0]
    assert (record["runs"], record["seeds"], record["seconds"]) == ([], [], 0.0)
