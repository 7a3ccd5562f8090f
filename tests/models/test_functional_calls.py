"""Functional dropout: it is found, what holds its rate is found, and the rate can be set."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.functional_calls import functional_dropout
from dropkit.models.surgery import convert, insert, remove, set_rate

X = torch.ones(7, 5)


class Net(nn.Module):
    """Drops in its forward as it is told to; x counts what is left."""

    def __init__(self, drop, **attributes):
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self.drop = [drop]
        vars(self).update(attributes)

    def forward(self, x):
        return self.fc(self.drop[0](self, x))


def holders(net, x=X):
    return [(call.rate, call.attribute) for call in functional_dropout(net, x)]


def rates(net, x=X):
    return [call.rate for call in functional_dropout(net, x)]


def is_random(net, x=X):
    return not torch.equal(net(x), net(x))


ATTRIBUTE = Net(lambda net, x: F.dropout(x, net.p, net.training), p=0.25)
CASES = {
    "attribute": (ATTRIBUTE, [(0.25, ("", "p"))]),
    "literal": (Net(lambda net, x: F.dropout(x, 0.25, net.training), p=0.3), [(0.25, None)]),
    "literal beside its equal": (Net(lambda net, x: F.dropout(x, 0.25, net.training), p=0.25), [(0.25, None)]),
    "default": (Net(lambda net, x: F.dropout(x, training=net.training)), [(0.5, None)]),
    "by name": (Net(lambda net, x: F.dropout(input=x, p=net.p, training=net.training), p=0.25), [(0.25, ("", "p"))]),
    "always on": (Net(lambda net, x: F.dropout(x, 0.25)), [(0.25, None)]),
    "torch's": (Net(lambda net, x: torch.dropout(x, 0.25, net.training)), [(0.25, None)]),
    "in training alone": (
        Net(lambda net, x: F.dropout(x, net.p) if net.training else x, p=0.25), [(0.25, ("", "p"))],
    ),
    "two attributes": (
        Net(lambda net, x: F.dropout(F.dropout(x, net.a, net.training), net.b, net.training), a=0.25, b=0.5),
        [(0.25, ("", "a")), (0.5, ("", "b"))],
    ),
    "two equal attributes": (
        Net(lambda net, x: F.dropout(F.dropout(x, net.b, net.training), net.a, net.training), a=0.25, b=0.25),
        [(0.25, ("", "b")), (0.25, ("", "a"))],
    ),
    "one attribute for two": (
        Net(lambda net, x: F.dropout(F.dropout(x, net.p, net.training), net.p, net.training), p=0.25),
        [(0.25, ("", "p"))] * 2,
    ),
    "attributes beside a literal": (
        Net(lambda net, x: F.dropout(F.dropout(F.dropout(x, net.a), net.b), 0.5), a=0.25, b=0.3),
        [(0.25, ("", "a")), (0.3, ("", "b")), (0.5, None)],
    ),
    "what is kept": (Net(lambda net, x: F.dropout(x, 1 - net.keep, net.training), keep=0.5), [(0.5, None)]),
    "a property": (Net(lambda net, x: F.dropout(x, net.rates["p"], net.training), rates={"p": 0.25}), [(0.25, None)]),
    "something else, too": (
        Net(lambda net, x: F.dropout(x, net.drop_rate, net.training)[:, : int(net.n)], drop_rate=1, n=5),
        [(1.0, ("", "drop_rate"))],
    ),
    "a fragile neighbour": (
        Net(lambda net, x: F.dropout(x, net.p, net.training) * {0.25: 1.0}[net.q], p=0.25, q=0.25),
        [(0.25, ("", "p"))],
    ),
    "alpha": (Net(lambda net, x: F.alpha_dropout(x, net.p, net.training), p=0.25), [(0.25, ("", "p"))]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_call_and_what_holds_its_rate(case):
    net, expected = copy.deepcopy(CASES[case])
    before = dict(vars(net))
    assert holders(net) == expected
    assert vars(net) == before


@pytest.mark.parametrize("case", CASES)
def test_none_switches_it_off_and_remove_puts_it_back(case):
    net, expected = copy.deepcopy(CASES[case])
    before = dict(vars(net))
    random = is_random(net)
    changes = insert(net, "none", X)
    assert [change.before.rpartition(" ")[2] for change in changes] == [f"{rate:g}" for rate, _ in expected]
    assert not is_random(net)
    assert set(rates(net)) <= {0.0}
    remove(net)
    assert vars(net) == before
    assert is_random(net) == random
    assert not net._forward_hooks
    assert not net._forward_hooks_always_called


@pytest.mark.parametrize("case", CASES)
def test_its_rate_can_be_set_again_and_again(case):
    net, expected = copy.deepcopy(CASES[case])
    for rate in (0.125, 0.75, 0.125):
        set_rate(net, rate, X)
        assert rates(net) == [rate] * len(expected)
    if case not in ("alpha", "a fragile neighbour"):
        torch.nn.init.eye_(net.fc.weight)
        torch.nn.init.zeros_(net.fc.bias)
        dropped = int((net(torch.ones(999, 5)) == 0).sum())
        n, p = 999 * 5, 1 - 0.875 ** len(expected)
        assert abs(dropped - n * p) < 5 * (n * p * (1 - p)) ** 0.5
    remove(net)
    assert holders(net) == expected


def test_eval_mode_stays_without_dropout():
    net = Net(lambda net, x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if net.training else 0.0))
    x = torch.rand(2, 7, 5)
    set_rate(net, 0.25, x)
    assert rates(net, x) == [0.25]
    assert is_random(net, x)
    assert not is_random(net.eval(), x)


def test_attention():
    layer = nn.MultiheadAttention(6, 2, dropout=0.25, batch_first=True)
    net = nn.Sequential(Query(layer))
    x = torch.rand(2, 7, 6)
    assert holders(net, x) == [(0.25, ("0.layer", "dropout"))]
    (change,) = insert(net, "none", x)
    assert (change.path, layer.dropout) == ("0.layer", 0.0)
    assert not is_random(net, x)
    remove(net)
    assert layer.dropout == 0.25
    set_rate(net, {"0.*": 0.5}, x)
    assert layer.dropout == 0.5


class Query(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x, x)[0]


class Outer(nn.Module):
    """Blocks whose rate the network around them holds."""

    def __init__(self):
        super().__init__()
        self.p, self.width = 0.25, 5
        self.blocks = nn.ModuleList([Net(lambda net, x: F.dropout(x, self.p, net.training)) for _ in range(2)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_an_attribute_of_a_module_around():
    net = Outer()
    assert holders(net) == [(0.25, ("", "p"))] * 2
    set_rate(net, {"blocks.1": 0.5}, X)
    assert net.p == 0.5


@pytest.mark.parametrize("converted", [False, True])
def test_the_rate_of_a_dropout_layer_that_is_not_called(converted):
    """As timm's attention has it."""
    net = Net(lambda net, x: F.scaled_dot_product_attention(x, x, x, dropout_p=net.off.p if net.training else 0.0))
    net.off = nn.Dropout(0.25)
    if converted:
        convert(net)
    x = torch.rand(2, 7, 5)
    assert holders(net, x) == [(0.25, ("off", "p"))]
    set_rate(net, 0.5, x)
    assert (net.off.p, rates(net, x)) == (0.5, [0.5])
    insert(net, "none", x)
    assert not is_random(net, x)
    remove(net)
    assert (net.off.p, type(net.off)) == (0.25, nn.Dropout)


def test_a_literal_rate_leaves_other_rates_alone():
    net = Net(lambda net, x: net.inner(F.dropout(F.dropout(x, 0.25, net.training), 0.5, net.training)))
    net.inner = Net(lambda net, x: net.layer(F.dropout(x, 0.75, net.training)))
    net.inner.layer = nn.Dropout(0.125)
    set_rate(net, {"inner": 0.0}, X)
    assert rates(net) == [0.25, 0.5, 0.0]
    assert net.inner.layer.p == 0.125


def test_an_exception_in_the_forward_leaves_no_rate_behind():
    net = Net(lambda net, x: F.dropout(x, 0.5, net.training) if x.shape[1] == 5 else 1 / 0)
    insert(net, "none", X)
    with pytest.raises(ZeroDivisionError):
        net(torch.ones(7, 3))
    assert set(F.dropout(torch.ones(99), 0.5).tolist()) == {0.0, 2.0}
    assert not is_random(net)


def test_a_module_that_calls_itself():
    net = Net(lambda net, x: F.dropout(net(x[:-1]) if len(x) > 5 else x, 0.5, net.training))
    insert(net, "none", X)
    assert not is_random(net)
    assert set(F.dropout(torch.ones(99), 0.5).tolist()) == {0.0, 2.0}


def test_a_copy_keeps_the_other_rate():
    net = copy.deepcopy(CASES["literal"][0])
    insert(net, "none", X)
    twin = copy.deepcopy(net)
    remove(net)
    assert is_random(net)
    assert not is_random(twin)


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x):
        return F.dropout(self.fc(x), 0.5, self.training)


# The compiler hides this warning of its own, unless warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor")
@pytest.mark.parametrize("nested", [False, True])
def test_compiled_code_has_the_other_rate(nested):
    torch._dynamo.reset()
    net = nn.Sequential(nn.Linear(5, 5), Compiled()) if nested else Compiled()
    insert(net, "none", X)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert not is_random(compiled)
    set_rate(net, 0.25, X)
    assert is_random(compiled)
    remove(compiled)
    assert is_random(compiled)


def test_torchvision_s_densenet(libraries):
    _, torchvision = libraries
    net = torchvision.models.DenseNet(4, (2, 2), 8, bn_size=2, num_classes=3, drop_rate=0.25)
    x = torch.randn(2, 3, 32, 32)
    found = functional_dropout(net, x)
    assert [call.attribute for call in found] == [(call.module, "drop_rate") for call in found]
    assert [call.module for call in found] == [
        f"features.denseblock{block}.denselayer{layer}" for block in (1, 2) for layer in (1, 2)
    ]
    set_rate(net, {"features.denseblock1.*": 0.5}, x)
    layers = [net.get_submodule(call.module) for call in found]
    assert [layer.drop_rate for layer in layers] == [0.5, 0.5, 0.25, 0.25]
    insert(net, "none", x)
    assert [layer.drop_rate for layer in layers] == [0.0] * 4
    assert type(layers[0].drop_rate) is float
    remove(net)
    assert [layer.drop_rate for layer in layers] == [0.25] * 4


def test_dropkit_s_own_functions_are_refused():
    net = Net(lambda net, x: dropkit.functional.dropout(x, 0.5, net.training))
    with pytest.raises(
        DropkitError, match=r"the forward of the network \(Net\) calls a function of dropkit.functional"
    ):
        insert(net, "none", X)


def test_a_policy_s_layer_takes_the_place_of_the_call():
    net = Compiled()
    net.last = nn.Linear(5, 2)
    net.register_forward_hook(lambda module, args, output: module.last(output.relu()))
    changes = insert(net, {"last": 0.25}, X)
    assert str(changes[0]) == "the network: dropout 0.5 -> dropout 0"
    assert net.last.site_dropout.p == 0.25


def test_names_that_are_not_there():
    net = Compiled()
    with pytest.raises(DropkitError, match="Compiled has no dropout whose rate could be set: insert some, or give an"):
        set_rate(net, 0.2)
    message = r"there is no dropout at 'fc'. There is some at the network \(dropout in its forward\)"
    with pytest.raises(DropkitError, match=message):
        set_rate(net, {"fc": 0.2}, X)


def test_what_remove_says_of_a_rate_that_an_attribute_holds():
    net = Net(lambda net, x: F.dropout(x, net.drop_rate, net.training), drop_rate=0.25)
    set_rate(net, 0.5, X)
    assert list(map(str, remove(net))) == ["the network: Net(drop_rate=0.5) -> Net(drop_rate=0.25)"]


def test_no_functional_dropout_where_an_example_was_given():
    net = Net(lambda net, x: F.dropout(x, net.drop_rate, net.training) if net.drop_rate else x, drop_rate=0.0)
    with pytest.raises(DropkitError, match="or give an example input"):
        set_rate(net, 0.5)
    with pytest.raises(DropkitError, match="not called where its rate is 0: build the network with another one"):
        set_rate(net, 0.5, X)
