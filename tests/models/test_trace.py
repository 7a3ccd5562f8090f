"""Tracing: every operation is seen, nothing of the network is different afterwards, and what cannot be says so."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.trace import trace


class Functional(nn.Module):
    """The tutorial's style: layers with weights as modules, everything else as functions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.fc(F.dropout(x.flatten(1), 0.5, self.training))


X = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def names(found):
    return [op.name for op in found.operations]


def test_functions_and_modules_are_seen_with_the_module_they_are_in():
    found = trace(Functional(), X)
    seen = [(op.name, op.module) for op in found.operations]
    assert seen == [("conv2d", "conv"), ("relu", ""), ("max_pool2d", ""), ("flatten", ""), ("dropout", ""),
                    ("linear", "fc")]  # fmt: skip
    assert [call.path for call in found.calls] == ["", "conv", "fc"]
    assert found.shapes[found.outputs[0]] == (5, 2)
    assert all(
        later.reads[0] == op.writes[0] for op, later in zip(found.operations, found.operations[1:], strict=False)
    )
    assert all(__file__ in op.source for op in found.operations)


def test_the_arguments_are_told():
    (dropout,) = [op for op in trace(Functional(), X).operations if op.name == "dropout"]
    assert {"p": 0.5, "training": True}.items() <= dropout.kwargs.items()
    assert not dropout.layer


@pytest.mark.parametrize("kind", [nn.Dropout, dropkit.Dropout, dropkit.GaussianDropout, dropkit.ConcreteDropout])
def test_a_dropout_layer_is_one_operation(kind):
    found = trace(nn.Sequential(nn.Linear(3, 5), kind(0.5), nn.Linear(5, 2)), torch.ones(7, 3))
    assert [(op.name, op.layer) for op in found.operations] == [("linear", False), ("dropout", True), ("linear", False)]


def test_a_layer_that_does_more_than_drop_is_what_it_does():
    assert names(trace(nn.Sequential(nn.Linear(3, 5), dropkit.ReLUDropout(0.5)), torch.ones(7, 3))) == [
        "linear",
        "relu",
    ]


def test_an_operation_in_place_makes_a_new_value_of_the_same_tensor():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x + 1
            y.relu_()
            y += x
            return y

    relu, add = trace(InPlace(), X).operations[1:]
    assert (relu.name, relu.reads != relu.writes) == ("relu_", True)
    assert add.reads == (relu.writes[0], 0)
    assert add.writes[0] not in add.reads


def test_a_dropout_that_is_no_part_of_the_network_is_a_stranger():
    class Hidden(nn.Module):
        def forward(self, x):
            return nn.Dropout(0.5)(x)

    (kind, source), *_ = trace(Hidden(), X).strangers
    assert kind == "Dropout"
    assert source.startswith(__file__)


class Restless(nn.Module):
    """A network that changes what it can when it runs."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("nothing", torch.full((2,), torch.nan))
        self.calls, self.seen, self.kept = 0, [1], {"a": 1}
        self.flag = nn.Dropout(0.5).eval()

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        self.kept["b"] = x
        self.new = x
        self.count += 1
        self.nothing = torch.ones(2)
        self.train(False)
        x.mul_(2)
        return self.norm(x + torch.rand_like(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_nothing_is_different_afterwards(training, fails):
    net = Restless().train(training)
    if fails:
        net.register_forward_hook(lambda *_: 1 / 0)
    x = X.clone()
    before = {name: (value, copy.copy(value)) for name, value in net.__dict__.items()}
    buffers = {name: (buffer, buffer.clone()) for name, buffer in net.named_buffers()}
    modes = [module.training for module in net.modules()]
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(DropkitError, match="ZeroDivisionError"):
            trace(net, x)
    else:
        trace(net, x)
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net.modules()] == modes
    assert net.__dict__.keys() == before.keys()
    for name, (value, content) in before.items():
        assert net.__dict__[name] is value
        assert list(value) == list(content) if hasattr(value, "__len__") else value == content
    after = dict(net.named_buffers())
    for name, (buffer, content) in buffers.items():
        assert after[name] is buffer
        torch.testing.assert_close(buffer, content, rtol=0, atol=0, equal_nan=True)


def test_the_recorder_leaves_no_hooks():
    from torch.nn.modules import module

    trace(Functional(), X)
    assert not module._global_forward_hooks
    assert not module._global_forward_pre_hooks


def test_no_statistics_move_and_one_picture_will_do():
    net = nn.Sequential(nn.Conv2d(1, 3, 6), nn.BatchNorm2d(3))
    assert trace(net, X[:1]).training
    assert net[1].num_batches_tracked == 0


class Modal(nn.Module):
    def __init__(self, bad):
        super().__init__()
        self.bad = bad
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        if self.training is self.bad:
            raise RuntimeError("not in this mode\nand a second line")
        return self.fc(x).relu()


def test_a_network_that_fails_in_training_mode_is_traced_in_eval_mode():
    found = trace(Modal(True), torch.ones(5, 3))
    assert not found.training
    assert names(found) == ["linear", "relu"]
    assert trace(Modal(False), torch.ones(5, 3)).training


def test_a_mode_can_be_asked_for():
    assert not trace(Functional(), X, training=False).training
    with pytest.raises(DropkitError, match=r"Modal cannot run .*RuntimeError: not in this mode\. Give"):
        trace(Modal(True), torch.ones(5, 3), training=True)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, left, right):
        return {"sum": (self.fc(left) + right,), "left": [left]}


@pytest.mark.parametrize("pack", [tuple, list, lambda pair: {"right": pair[1], "left": pair[0]}])
def test_several_inputs_and_packed_outputs(pack):
    found = trace(Two(), pack([torch.ones(5, 3), torch.zeros(5, 2)]))
    assert names(found) == ["linear", "add"]
    assert len(found.inputs) == 2
    assert [found.shapes[value] for value in found.outputs] == [(5, 2), (5, 3)]
    assert found.outputs[1] in found.inputs


@pytest.mark.parametrize("how", ["wrapped", "in place", "part"])
def test_compiled_networks_are_seen_as_they_are_written(how):
    torch._dynamo.reset()
    net = nn.Sequential(Functional(), nn.ReLU())
    expected = names(trace(net, X))
    run = net
    if how == "wrapped":
        run = torch.compile(net, backend="eager")
    elif how == "in place":
        net.compile(backend="eager")
    else:
        net[0] = torch.compile(net[0], backend="eager")
    run(X)
    assert names(trace(run, X)) == expected


def test_the_meta_device():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).to("meta")
    assert names(trace(net, X.to("meta"))) == ["conv2d", "batch_norm", "relu"]
    assert net[1].running_mean.is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    found = trace(Functional().to(dtype), X.to(dtype))
    assert found.shapes[found.outputs[0]] == (5, 2)


def test_under_inference_mode():
    with torch.inference_mode():
        assert names(trace(Functional(), X)) == names(trace(Functional(), X.clone()))


def test_what_the_example_was_and_what_to_give_instead():
    message = r"Functional cannot run on the example input, a tensor \[5, 2, 6, 6\] of torch.float32: Runtime.*\. Give"
    with pytest.raises(DropkitError, match=message):
        trace(Functional(), torch.ones(5, 2, 6, 6))
    with pytest.raises(
        DropkitError, match=r"\{'left': a tensor \[5, 3\] of torch.float32, 'x': \(a int\)\}: TypeError"
    ):
        trace(Two(), {"left": torch.ones(5, 3), "x": (1,)})
    with pytest.raises(DropkitError, match="a NoneType"):
        trace(Two(), None)


@pytest.mark.parametrize("model", [None, 3, nn.Linear, lambda x: x, [nn.Linear(2, 2)]])
def test_what_is_no_module_is_refused(model):
    with pytest.raises(DropkitError, match="a torch.nn.Module is needed, but got .*: give the network itself"):
        trace(model, X)


def test_lazy_layers_are_refused_until_they_have_parameters():
    net = nn.Sequential(nn.LazyConv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(DropkitError, match="the module '0' is lazy .*call the network once on an example"):
        trace(net, X)
    net(X)
    assert names(trace(net, X)) == ["conv2d", "relu", "flatten", "linear"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, X)])
@pytest.mark.parametrize("nested", [True, False])
def test_scripted_networks_are_refused(make, nested):
    scripted = make(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()))
    where = "the module '0'" if nested else "the network"
    with pytest.raises(DropkitError, match=f"{where} is scripted .*give the network that it was made from"):
        trace(nn.Sequential(scripted) if nested else scripted, X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_refused():
    net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), {nn.Linear})
    with pytest.raises(DropkitError, match=r"the module '1' is quantised \(Linear\).*quantise it after training"):
        trace(net, X)
