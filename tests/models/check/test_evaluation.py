"""Dropout that acts in eval mode: each misuse planted, and what is near it and right."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check.check import check


def codes(model, example):
    return [(f.code, f.severity) for f in check(model, example) if f.severity != "note"]


def one(model, example, code):
    (finding,) = [f for f in check(model, example) if f.code == code]
    return finding


class Calls(nn.Module):
    """A network that calls a function of its own between two layers."""

    def __init__(self, function):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 11), nn.Linear(11, 3)
        self.function = function

    def forward(self, x):
        return self.fc2(self.function(self, self.fc1(x).relu()))


ON = {"training": True}
X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("function", "left_out"),
    [
        (lambda net, x: F.dropout(x), True),
        (lambda net, x: F.dropout(x, 0.3, inplace=False), True),
        (lambda net, x: F.dropout(x, 0.3, True), False),
        (lambda net, x: F.dropout(x, p=0.3, training=True), False),
        (lambda net, x: F.dropout(x, **ON), False),
        (lambda net, x: torch.dropout(x, 0.3, True), False),
        (lambda net, x: torch.native_dropout(x, 0.3, True)[0], False),
        (lambda net, x: F.dropout1d(x[:, None], 0.3)[:, 0], True),
        (lambda net, x: F.feature_alpha_dropout(F.selu(x[:, :, None]), 0.3, True)[:, :, 0], False),
        (lambda net, x: F.alpha_dropout(F.selu(x), training=True), False),
        (
            lambda net, x: F.dropout(
                x,
                p=0.3,
            ),
            True,
        ),
    ],
)
def test_functional_dropout_that_stays_on(function, left_out):
    finding = one(Calls(function), X, "DK001")
    assert finding.severity == "error"
    assert "drops" in finding.observed
    assert "in eval mode too" in finding.observed
    assert ("left out" in finding.observed) == left_out
    assert finding.where.rpartition("/")[2].startswith("test_evaluation.py:")
    assert codes(Calls(function), X) == [("DK001", "error")]  # and no other rule says it again


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: F.dropout(x, 0.3, net.training),
        lambda net, x: F.dropout(x, training=net.training),
        lambda net, x: torch.dropout(x, 0.3, net.training),
        lambda net, x: F.dropout(x, 0.0),
        lambda net, x: F.alpha_dropout(F.selu(x), training=net.training),
        lambda net, x: dropkit.functional.dropout(x, 0.3, net.training),
        lambda net, x: F.dropout(x) if net.training else x,
    ],
)
def test_functional_dropout_that_follows_the_mode(function):
    assert codes(Calls(function), X) == []


def test_the_line_is_that_of_the_call():
    function = lambda net, x: F.dropout(x, 0.3)
    finding = one(Calls(function), X, "DK001")
    assert finding.where.endswith(f"test_evaluation.py:{function.__code__.co_firstlineno}")
    assert finding.observed == (
        "dropout drops 0.3 of the units in eval mode too: training is left out, and its default is True"
    )


class Attends(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.qkv, self.head, self.call = nn.Linear(5, 5), nn.Linear(5, 3), call

    def forward(self, x):
        y = self.qkv(x)
        return self.head(self.call(self, y).mean(1))


TOKENS = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))


def test_attention_that_drops_in_eval_mode():
    always = Attends(lambda net, y: F.scaled_dot_product_attention(y, y, y, dropout_p=0.1))
    finding = one(always, TOKENS, "DK001")
    assert "scaled_dot_product_attention drops 0.1 of the attention weights in eval mode too" in finding.observed
    assert "if self.training else 0.0" in finding.cure
    told = Attends(lambda net, y: F.scaled_dot_product_attention(y, y, y, dropout_p=0.1 if net.training else 0.0))
    assert codes(told, TOKENS) == []


def attend(net, y, **training):
    weight = torch.eye(5)
    given = (y, y, y, 5, 1, weight.repeat(3, 1), None, None, None, False, 0.1, weight, None)
    return F.multi_head_attention_forward(*given, **training)[0]


def test_multi_head_attention_that_drops_in_eval_mode():
    finding = one(Attends(attend), TOKENS, "DK001")
    assert "multi_head_attention_forward drops 0.1 of the attention weights" in finding.observed
    assert codes(Attends(lambda net, y: attend(net, y, training=net.training)), TOKENS) == []
    assert codes(Attends(lambda net, y: net.attention(y, y, y)[0]).attach(), TOKENS) == []


def _attach(self):
    self.attention = nn.MultiheadAttention(5, 1, dropout=0.1, batch_first=True)
    return self


Attends.attach = _attach


def test_dropkits_function_that_stays_on():
    function = lambda net, x: dropkit.functional.dropout(x, 0.3)
    finding = one(Calls(function), X, "DK001")
    assert finding.where.endswith(f"test_evaluation.py:{function.__code__.co_firstlineno}")
    assert codes(Calls(function), X) == [("DK001", "error")]


@pytest.mark.parametrize("layer", [nn.Dropout, dropkit.Dropout])
def test_a_layer_that_is_built_in_forward(layer):
    finding = one(Calls(lambda net, x: layer(0.3)(x)), X, "DK002")
    assert finding.severity == "error"
    assert "the Dropout here (p = 0.3) drops in eval mode too" in finding.observed
    assert "test_evaluation.py:" in finding.where
    assert codes(Calls(lambda net, x: layer(0.3)(x)), X) == [("DK002", "error")]


def test_a_layer_that_is_built_in_forward_and_told_the_mode():
    assert codes(Calls(lambda net, x: nn.Dropout(0.3).train(net.training)(x)), X) == []
    assert codes(Calls(lambda net, x: nn.Dropout(0.0)(x)), X) == []
    assert codes(Calls(lambda net, x: nn.Dropout(0.3 if net.training else 0.0)(x)), X) == []


def test_a_layer_in_a_plain_list():
    held = Calls(lambda net, x: net.layers[0](x))
    held.layers = [nn.Dropout(0.3)]
    assert codes(held, X) == [("DK002", "error")]
    held.layers = [nn.Dropout(0.3).eval()]
    assert "drops nothing in training mode" in one(held, X, "DK002").observed
    held.layers = nn.ModuleList([nn.Dropout(0.3)])
    assert codes(held, X) == []


class AlwaysOn(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p, True)


def test_two_evaluations_that_differ():
    finding = one(Calls(lambda net, x: x + torch.rand_like(x)), X, "DK003")
    assert finding.severity == "error"
    assert "differ by up to" in finding.observed
    assert "random numbers are drawn here" in finding.observed
    assert "test_evaluation.py:" in finding.where
    layer = nn.Sequential(nn.Linear(5, 11), AlwaysOn(0.3), nn.Linear(11, 3))
    assert codes(layer, X) == [("DK003", "error")]
    by_python = Calls(lambda net, x: x * random.random())
    assert codes(by_python, X) == [("DK003", "error")]
    assert one(by_python, X, "DK003").where == "Calls"


def test_evaluations_that_differ_with_equal_seeds_too():
    draws = iter(range(1, 1000))
    finding = one(Calls(lambda net, x: x * next(draws)), X, "DK003")
    assert "with equal seeds too" in finding.observed
    tiny = iter(range(1000))  # as the order of additions may change the last bits
    assert codes(Calls(lambda net, x: x * (1 + 1e-7 * next(tiny))), X) == []


def test_evaluations_that_are_random_and_equal():
    def own_generator(net, x):
        return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(3))

    assert codes(Calls(own_generator), X) == []
    assert codes(Calls(lambda net, x: x + torch.rand_like(x) if net.training else x), X) == []
    assert codes(Calls(lambda net, x: x * float("nan")), X) == []
