"""Layers in the wrong mode: each misuse planted, and what is near it and right."""

import torch
import torch.nn.functional as F
from torch import nn

from dropkit.models.check.check import check

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def codes(model, example=X):
    return [(f.code, f.severity) for f in check(model, example) if f.code in ("DK004", "DK005", "DK006")]


def one(model, code):
    (finding,) = [f for f in check(model, X) if f.code == code]
    return finding


def body(rate=0.3):
    return nn.Sequential(nn.Linear(5, 11), nn.ReLU(), nn.Dropout(rate), nn.Linear(11, 3))


class Net(nn.Module):
    def __init__(self, rate=0.3):
        super().__init__()
        self.body = body(rate)

    def forward(self, x):
        return self.body(x)


class ForgetsToPassOn(Net):
    def train(self, mode=True):
        self.training = mode
        return self


class TrainsForEver(Net):
    def train(self, mode=True):
        return super().train(True)


class EvaluatesInForward(Net):
    def forward(self, x):
        self.eval()
        return self.body(x)


class TrainsInForward(Net):
    def forward(self, x):
        self.body.train()
        return self.body(x)


class DropsByFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def train(self, mode=True):
        return super().train(True)

    def forward(self, x):
        return self.fc(F.dropout(x, 0.3, self.training))


class KeepsItsBackboneInEval(nn.Module):
    def __init__(self, frozen):
        super().__init__()
        self.backbone = body().requires_grad_(not frozen)
        self.head = nn.Linear(3, 2)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


def test_a_right_network_has_no_finding():
    assert codes(Net()) == []


def test_train_and_eval_that_do_not_reach_a_layer():
    assert codes(ForgetsToPassOn()) == [("DK004", "error")]
    finding = one(ForgetsToPassOn(), "DK004")
    assert finding.where == "body.2"
    assert finding.observed == "model.eval() leaves it in training mode: it drops in evaluation"
    assert finding.cure == "Let ForgetsToPassOn.train call super().train(mode) and leave its layers as that sets them"
    off = ForgetsToPassOn()
    off.body.eval()
    assert "model.train() leaves it in eval mode: it drops nothing in training" in one(off, "DK004").observed
    assert codes(TrainsForEver()) == [("DK004", "error")]
    assert codes(ForgetsToPassOn(rate=0.0)) == []


def test_modes_that_forward_changes():
    assert codes(EvaluatesInForward()) == [("DK004", "error")]
    assert "after model.train() forward puts it back in eval mode" in one(EvaluatesInForward(), "DK004").observed
    assert codes(TrainsInForward()) == [("DK004", "error")]
    assert "after model.eval() forward puts it back in training mode" in one(TrainsInForward(), "DK004").observed


def test_eval_that_does_not_reach_functional_dropout():
    finding = one(DropsByFunction(), "DK004")
    assert finding.where == "DropsByFunction"
    assert "model.eval() leaves it in training mode" in finding.observed


def test_a_frozen_part_may_stay_in_eval_mode():
    assert codes(KeepsItsBackboneInEval(frozen=True).train()) == []
    learns = codes(KeepsItsBackboneInEval(frozen=False).train())
    assert learns == [("DK004", "error")]  # DK005, whose cure is to call train(), would be of no help


def test_train_not_restored_after_validation():
    net = Net()
    net.body.eval()
    finding = one(net, "DK005")
    assert (finding.severity, finding.where) == ("warning", "body.2")
    assert "the network is in training mode and this layer in eval mode" in finding.observed
    net.body.requires_grad_(False)
    net.head = nn.Linear(3, 2)
    assert codes(net) == []
    assert codes(Net(rate=0.0).train()) == []


def test_layers_that_train_while_the_network_evaluates():
    net = Net().eval()
    net.body[2].train()
    assert codes(net) == [("DK005", "warning")]
    assert "in eval mode and this layer in training mode" in one(net, "DK005").observed


def test_a_network_in_eval_mode_is_a_note():
    assert codes(Net().eval()) == [("DK005", "note")]
    assert one(Net().eval(), "DK005").where == "Net"
    assert codes(nn.Linear(5, 3).eval()) == []


def test_no_grad_taken_for_eval():
    with torch.no_grad():
        assert codes(Net()) == [("DK006", "warning")]
        assert "1 dropout layer will act" in one(Net(), "DK006").observed
        assert codes(Net(rate=0.0)) == []
        assert codes(Net().eval()) == [("DK005", "note")]
    with torch.inference_mode():
        assert codes(Net()) == [("DK006", "warning")]
    assert codes(Net()) == []


class FunctionAlone(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(F.dropout(x, 0.3, self.training))


def test_no_grad_with_functional_dropout():
    with torch.no_grad():
        assert "its functional dropout will act" in one(FunctionAlone(), "DK006").observed
    assert codes(FunctionAlone().eval()) == [("DK005", "note")]


def test_a_frozen_part_that_trains_is_not_at_rest():
    net = Net()
    net.body.requires_grad_(False)
    net.head = nn.Linear(3, 2)
    net.body[2].eval()
    assert codes(net) == [("DK005", "warning")]


def test_no_grad_is_right_where_the_network_evaluates():
    net = Net().eval()
    net.body[2].train()
    with torch.no_grad():
        assert codes(net) == [("DK005", "warning")]


class DropsAlways(DropsByFunction):
    def forward(self, x):
        return self.fc(F.dropout(x, 0.3, True))


def test_a_function_that_knows_no_mode_is_left_to_dk001():
    assert codes(DropsAlways()) == []
