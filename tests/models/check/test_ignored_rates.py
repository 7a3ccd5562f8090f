"""Rates that change nothing, and rates that do in ways that are hard to see."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.check import check

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A layer with an attribute `name` = 0.3, and a function that may use it."""

    def __init__(self, name, function, rate=0.3):
        super().__init__()
        self.fc, self.function = nn.Linear(5, 5), function
        setattr(self, name, rate)

    def forward(self, x):
        return self.function(self, self.fc(x).relu())


def found(block):
    upstream = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Dropout(0.2))  # dropout elsewhere is none of the block's
    return [f for f in check(nn.Sequential(upstream, block, nn.Linear(5, 3)), X) if f.code == "DK008"]


@pytest.mark.parametrize(
    "name",
    [
        "dropout",
        "drop_rate",
        "dropout_prob",
        "drop_prob",
        "attn_drop_rate",
        "p_drop",
        "_drop_path_rate",
        "hidden_dropout",
    ],
)
def test_a_rate_that_is_ignored(name):
    (finding,) = found(Block(name, lambda block, x: x))
    assert (finding.severity, finding.where) == ("warning", "1")
    assert finding.observed == f"{name} = 0.3, but nothing in this Block drops in training"


def stochastic_depth(block, x):
    keep = torch.rand(len(x), 1) >= block.drop_prob if block.training else torch.ones(len(x), 1)
    return x * keep


@pytest.mark.parametrize(
    "function",
    [
        lambda block, x: F.dropout(x, block.drop_prob, block.training),
        lambda block, x: dropkit.functional.dropout(x, block.drop_prob, block.training),
        lambda block, x: nn.Dropout(block.drop_prob).train(block.training)(x),
        lambda block, x: x if block.training and random.random() < block.drop_prob else 2 * x,
        stochastic_depth,
    ],
)
def test_a_rate_that_is_used(function):
    assert found(Block("drop_prob", function)) == []


def test_a_rate_that_a_layer_within_uses():
    block = Block("drop_rate", lambda block, x: block.layer(x))
    block.layer = dropkit.Dropout(0.3)
    assert found(block) == []
    block.layer = nn.Identity()
    assert len(found(block)) == 1


@pytest.mark.parametrize(("name", "rate"), [("drop_rate", 0.0), ("drop_rate", 1), ("drop_last", 0.3), ("rate", 0.3)])
def test_what_is_no_rate(name, rate):
    assert found(Block(name, lambda block, x: x, rate)) == []


class UsesItsBlocksRate(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.block, self.rate = Block("drop_prob", lambda block, x: x), rate

    def forward(self, x):
        return x + F.dropout(self.block(x), self.rate, self.training)


def test_a_rate_that_the_module_around_uses():
    assert found(UsesItsBlocksRate(0.3)) == []
    assert len(found(UsesItsBlocksRate(0.25))) == 1


def test_what_never_ran_is_not_judged():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.spare = nn.Linear(5, 5), Block("drop_rate", lambda block, x: x)

        def forward(self, x):
            return self.fc(x)

    assert found(Spare()) == []


class Recurrent(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.inner = nn.LSTM(5, 5, num_layers=layers, dropout=0.3)

    def forward(self, x):
        return self.inner(x)[0]


@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last")
def test_an_lstm_of_one_layer_drops_nothing():
    assert found(Recurrent(2)) == []
    (finding,) = found(Recurrent(1))
    assert finding.where == "1.inner"


def test_attention_that_drops_inside():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(5, 1, dropout=0.3)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    assert found(Attends()) == []
