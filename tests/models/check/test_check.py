"""What check returns, what it takes, and that it leaves everything as it was."""

import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.check.check import check, merged
from dropkit.models.check.codes import CODES
from dropkit.models.check.finding import SEVERITIES, Finding

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
PICTURES = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def codes(model, example):
    return [f.code for f in check(model, example)]


class Misused(nn.Module):
    """An error, a warning and a note."""

    def __init__(self):
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(5, 11), nn.BatchNorm1d(11), nn.Linear(11, 3)
        self.high = nn.Dropout(0.8)
        self.alpha = nn.AlphaDropout(0.1, inplace=True)
        self.calls = 0
        self.last = None
        self.history = []

    def forward(self, x):
        self.calls += 1
        self.last = self.norm(self.fc1(x))
        self.history.append(self.calls)
        return self.fc2(F.dropout(self.high(self.alpha(F.selu(self.last)))))


def test_errors_come_first():
    found = check(Misused(), X)
    assert {"DK001", "DK012", "DK017"} <= {f.code for f in found}
    order = [SEVERITIES.index(f.severity) for f in found]
    assert order == sorted(order)


def test_every_finding_has_a_listed_code_and_is_a_sentence():
    for finding in check(Misused(), X):
        assert finding.code in CODES
        assert finding.observed
        assert not finding.observed.endswith(".")
        assert not finding.cure.endswith(".")
        assert finding.cure[0].isupper()


@pytest.mark.parametrize("build", [dropkit.CNNWithDropout, dropkit.BatchNormCNN, dropkit.ResidualCNN, dropkit.MLP])
def test_the_networks_of_dropkit_are_clean(build):
    net = build(input_shape=(1, 28, 28), num_classes=10)
    assert [f for f in check(net, PICTURES) if f.severity != "note"] == []


def test_findings_that_differ_in_their_places_are_one():
    def finding(where, observed="p is 1"):
        return Finding("DK010", "error", where, observed, "Mend it")

    places = [finding(w) for w in ("a", "b", "b", "c", "d")]
    assert [f.where for f in merged(places)] == ["a, b, c, d"]
    assert [f.where for f in merged([*places, finding("e")])] == ["a, b, c and 2 more"]
    assert [f.where for f in merged([finding("a"), finding("b", "p is 2")])] == ["a", "b"]
    layers = nn.Sequential(*(nn.Dropout(0.9) for _ in range(58)), nn.Linear(5, 3))
    assert [f.where for f in check(layers, X) if f.code == "DK012"] == ["0, 1, 2 and 55 more"]


def state_of(model):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {path: module.training for path, module in model.named_modules()}
    hooks = {
        path: [len(module.__dict__[name]) for name in sorted(module.__dict__) if "hooks" in name]
        for path, module in model.named_modules()
    }
    return tensors, modes, hooks


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_as_it_was(training):
    model = Misused()
    model.high.train(not training)
    model(X).sum().backward()
    model.last = "marker"
    model.train(training)
    gradients = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}
    before, calls, history = state_of(model), model.calls, list(model.history)
    check(model, X)
    assert_same(before, state_of(model))
    assert (model.calls, model.last, model.history) == (calls, "marker", history)
    for name, parameter in model.named_parameters():
        assert parameter.grad is gradients[name][0]
        assert torch.equal(parameter.grad, gradients[name][1])


def test_missing_gradients_stay_missing():
    model = Misused()
    check(model, X)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_generators_are_as_they_were():
    model = Misused()
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    check(model, X)
    assert torch.equal(before[0], torch.get_rng_state())
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][1])  # noqa: NPY002


class Fails(Misused):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        self.last = 1
        raise ValueError("no evaluation today")


def test_the_network_is_as_it_was_after_a_failure():
    model = Fails()
    before, hooks = state_of(model), dict(nn.modules.module._global_forward_pre_hooks)
    with pytest.raises(DropkitError, match="no evaluation today"):
        check(model, X)
    assert_same(before, state_of(model))
    assert (model.calls, model.last) == (0, None)
    assert hooks == nn.modules.module._global_forward_pre_hooks


class ChangesWeights(nn.Module):
    """As weights that are averaged while they are used, or bounded in forward."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            self.fc.weight.mul_(0.9)
        return self.fc(x)


def test_weights_that_forward_changes_are_put_back():
    model = ChangesWeights()
    before = model.fc.weight.detach().clone()
    assert codes(model, X) == []
    assert torch.equal(model.fc.weight, before)


def test_the_example_is_not_written_into():
    example = X.clone()
    assert codes(nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True), nn.Linear(5, 3)), example) == []
    assert torch.equal(example, X)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.dropout = nn.Linear(5, 3), nn.Dropout(0.8)

    def forward(self, x, scale):
        y = self.fc(self.dropout(x)) * scale
        return {"y": y, "parts": [y[:1], namedtuple("Part", "z")(y)]}


@pytest.mark.parametrize("example", [(X, torch.ones(1)), {"x": X, "scale": torch.ones(1)}])
def test_several_inputs_and_outputs_in_a_dict(example):
    assert codes(TwoInputs(), example) == ["DK012"]


@dataclass
class Output:
    logits: torch.Tensor


class ReturnsAnObject(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.dropout = nn.Linear(5, 3), nn.Dropout(0.5)

    def forward(self, x):
        return Output(self.dropout(self.fc(x)))


def test_what_is_returned_in_a_dataclass_is_seen():
    assert codes(ReturnsAnObject(), X) == ["DK021"]


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(DropkitError, match=r"Linear cannot run in training mode on the example input, .*\[7, 4\]"):
        check(nn.Linear(5, 3), torch.zeros(7, 4))


class OneModeAlone(nn.Module):
    """Runs in one mode, as a detector that wants the targets too in training."""

    def __init__(self, mode):
        super().__init__()
        self.fc, self.dropout, self.mode = nn.Linear(5, 3), nn.Dropout(0.5), mode

    def forward(self, x):
        if self.training != self.mode:
            raise ValueError("targets are missing")
        return self.dropout(self.fc(x))


@pytest.mark.parametrize(("mode", "other"), [(False, "training"), (True, "eval")])
def test_a_network_that_runs_in_one_mode_alone_is_not_called_clean(mode, other):
    with pytest.raises(DropkitError, match=f"OneModeAlone cannot run in {other} mode .*targets are missing"):
        check(OneModeAlone(mode), X)


@pytest.mark.filterwarnings("ignore")
def test_networks_that_cannot_be_followed_are_refused():
    with pytest.raises(DropkitError, match="scripted"):
        check(torch.jit.script(nn.Linear(5, 3)), X)
    with pytest.raises(DropkitError, match="lazy"):
        check(nn.LazyLinear(3), X)
    quantised = torch.ao.nn.quantized.Linear(5, 3)
    with pytest.raises(DropkitError, match="quantised"):
        check(nn.Sequential(quantised), X)
    exported = torch.export.export(nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5)), (X,)).module()
    with pytest.raises(DropkitError, match="was made by torch.export.*give the network that it was made from"):
        check(exported, X)
    assert codes(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5))), X) == ["DK021"]
    with pytest.raises(DropkitError, match="on the meta device, where nothing is computed"):
        check(nn.Linear(5, 3, device="meta"), X.to("meta"))
    with pytest.raises(DropkitError, match="a torch.nn.Module is needed, but got function"):
        check(lambda x: x, X)


def test_a_compiled_network_is_looked_into():
    compiled = torch.compile(nn.Sequential(nn.Dropout(0.9), nn.Linear(5, 3)), backend="eager")
    (finding,) = check(compiled, X)
    assert (finding.code, finding.where) == ("DK012", "0")


def test_an_example_from_inference_mode():
    with torch.inference_mode():
        example = torch.ones(7, 5)
        assert codes(nn.Sequential(nn.Dropout(0.9), nn.Linear(5, 3)).eval(), example) == ["DK012", "DK005"]


def test_it_is_a_public_name():
    assert dropkit.check is check
    assert dropkit.Finding is Finding
