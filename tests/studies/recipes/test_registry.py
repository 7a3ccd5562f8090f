"""Every recipe of the paper: that it can be built, and that its figures and rates are the paper's."""

import pytest
import torch

from dropkit.errors import DropkitError
from dropkit.models.max_norm import max_norm
from dropkit.models.networks import build
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert
from dropkit.studies.recipes.data_sources import SOURCES
from dropkit.studies.recipes.recipe import BUDGETS
from dropkit.studies.recipes.registry import RECIPES, find_recipe

TABLES = list(RECIPES["srivastava2014"])
EVERY = [(table, budget) for table in TABLES for budget in BUDGETS]


def recipe(table, budget="paper"):
    return find_recipe("srivastava2014", table, budget)


@pytest.mark.parametrize("given", ["9", "table-9", "table9", "Table 9", "TABLE-9", "table_9"])
def test_a_table_has_several_names(given):
    assert recipe(given).table == "table-9"


def test_what_is_not_there_lists_all():
    listed = "allowed are table-4, table-9, table-10, figure-8, figure-9, figure-11"
    for given, words in (("7", "'7'"), ("figure-9a", "'figure-9a'"), ("", "''"), (None, "with --table")):
        with pytest.raises(DropkitError, match=listed) as raised:
            recipe(given)
        assert words in str(raised.value)
    with pytest.raises(DropkitError, match="unknown paper 'srivastava': allowed are srivastava2014. Did you mean"):
        find_recipe("srivastava", "9", "quick")
    with pytest.raises(DropkitError, match="unknown budget 'fast': allowed are quick, paper"):
        recipe("9", "fast")


@pytest.mark.parametrize(("table", "budget"), EVERY)
def test_a_recipe_says_what_it_is_and_what_differs(table, budget):
    made = recipe(table, budget)
    assert (made.paper, made.table, made.budget) == ("srivastava2014", table, budget)
    assert made.seeds >= 3
    assert made.claims
    assert all(sentence.endswith(".") for sentence in made.differences)
    assert set(made.pictures) == {row.config.data for row in made.rows} <= set(SOURCES)
    assert all(row.config.epochs and row.config.optimizer == "sgd" for row in made.rows)
    assert bool(made.marks) == (budget == "paper" and table in ("table-4", "table-9", "table-10"))
    assert all(row.x is None for row in made.rows) == (made.axis == "")


@pytest.mark.parametrize("table", TABLES)
def test_what_is_claimed_is_what_the_papers_figures_say(table):
    for claim in recipe(table).claims:
        lower, higher = (recipe(table).row(name) for name in (claim.lower, claim.higher))
        assert lower.measure.words == higher.measure.words
        assert lower.config.data == higher.config.data
        if lower.paper is not None and higher.paper is not None:
            assert lower.paper.value < higher.paper.value


@pytest.mark.parametrize("table", TABLES)
def test_every_policy_has_its_sites(table):
    for row in recipe(table, "quick").rows:
        shape = SOURCES[row.config.data].shape
        network = build(row.config.model, input_shape=shape, num_classes=10)
        changes = insert(network, Policy.parse(row.config.dropout))
        assert row.config.dropout == "none" or changes
        assert network(torch.zeros(2, *shape)).shape == (2, 10)
        if row.config.max_norm is not None:
            max_norm(network, row.config.max_norm)


def papers(table):
    return {row.name: None if row.paper is None else (row.paper.value, row.paper.spread) for row in recipe(table).rows}


def test_the_papers_figures():
    assert papers("table-9") == {
        "L2": (0.0162, None),
        "max-norm": (0.0135, None),
        "dropout + L2": (0.0125, None),
        "dropout + max-norm": (0.0105, None),
    }
    assert papers("table-4") == {
        "no dropout": (0.1498, None),
        "fully connected layers": (0.1432, None),
        "all layers": (0.1261, None),
    }
    assert papers("table-10") == {
        "MNIST, Bernoulli": (0.0108, 0.0004),
        "MNIST, Gaussian": (0.0095, 0.0004),
        "CIFAR-10, Bernoulli": (0.126, 0.001),
        "CIFAR-10, Gaussian": (0.125, 0.001),
    }


def test_the_papers_rates_are_of_dropping():
    of = {row.name: row.config for row in recipe("table-4").rows}
    assert of["all layers"].dropout == "input=0.1,conv[0]=0.25,conv[1]=0.25,conv[2]=0.5,fc=0.5"
    assert of["fully connected layers"].dropout == "fc=0.5"
    assert {(c.max_norm, c.momentum, c.model) for c in of.values()} == {(4.0, 0.95, "paper-cnn")}
    of = {row.name: row.config for row in recipe("table-9").rows}
    assert of["dropout + max-norm"].dropout == "input=0.2,fc=0.5"
    assert {config.model for config in of.values()} == {"mlp:1024-1024-2048"}
    assert {name: (c.max_norm is None, c.weight_decay > 0, c.dropout != "none") for name, c in of.items()} == {
        "L2": (True, True, False),
        "max-norm": (False, False, False),
        "dropout + L2": (True, True, True),
        "dropout + max-norm": (False, False, True),
    }
    of = {row.name: row.config for row in recipe("table-10").rows}
    assert of["MNIST, Gaussian"].dropout == "input=gaussian:0.2,fc=gaussian:0.5"
    assert of["MNIST, Gaussian"].model == "mlp:1024-1024"


def test_with_pn_fixed_as_many_units_stay_in_expectation():
    for budget, kept in (("paper", (256, 256, 512)), ("quick", None)):
        rows = {row.x: row.config for row in recipe("figure-9", budget).rows if row.series == "pn fixed"}
        widths = {rate: [int(n) for n in config.model.partition(":")[2].split("-")] for rate, config in rows.items()}
        for rate, wide in widths.items():
            assert rows[rate].dropout == (f"fc={rate:g}" if rate else "none")
            expected = [n * (1 - rate) for n in wide]
            assert expected == pytest.approx(kept or widths[0.0], abs=0.5)
    fixed = {row.config.model for row in recipe("figure-9").rows if row.series == "n fixed"}
    assert fixed == {"mlp:2048-2048-2048"}


def test_marks_of_the_paper_budget():
    sentences = [mark.sentence for table in TABLES for mark in recipe(table).marks]
    assert sentences == [
        "in the paper's order: no dropout > fully connected layers > all layers",
        "all layers: at or under 12.61%",
        "dropout + max-norm: at or under 1.05%",
        "every row within 0.15 points of the paper's, or better",
        "MNIST, Gaussian no worse than MNIST, Bernoulli",
        "CIFAR-10, Gaussian no worse than CIFAR-10, Bernoulli",
    ]
