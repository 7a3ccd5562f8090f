"""What a network calls in training mode is heard wherever its code stands; what drops in no mode is left alone."""

import importlib.util
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.uncertainty.calls import Calls, training_calls
from dropkit.uncertainty.sampling import SamplingWarning, sample


class Of(nn.Module):
    """What a function makes of x [N, 11], then dropout unless `rate` is 0."""

    def __init__(self, function, rate=0.3, **modules):
        super().__init__()
        self.function, self.last = function, nn.Dropout(rate)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.last(self.function(self, x))


def x(n=7):
    return torch.randn(n, 11, generator=torch.Generator().manual_seed(0))


def said(net, **given):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sample(net, x(), n=3, **given)
    assert {one.category for one in told} <= {SamplingWarning}
    return [str(one.message) for one in told]


@pytest.fixture
def other_file(tmp_path):
    """Return a module of another file, with a network and a helper that drop in training mode alone."""
    path = tmp_path / "elsewhere.py"
    path.write_text(
        "from torch import nn\n"
        "from torch.nn.functional import dropout as thin\n"
        "def helped(x, on):\n"
        "    return thin(x, 0.4) if on else x\n"
        "class Base(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return thin(x, 0.4) if self.training else x\n"
    )
    spec = importlib.util.spec_from_file_location("elsewhere", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_forward_that_is_inherited_from_another_file_is_heard(other_file):
    class Heir(other_file.Base):
        pass

    (words,) = said(Of(lambda net, x: net.part(x), part=Heir()))
    assert "in training mode only" in words
    assert words.endswith("elsewhere.py:7)")


def test_a_helper_in_another_file_is_heard(other_file):
    (words,) = said(Of(lambda net, x: other_file.helped(x, net.training)))
    assert words.endswith("elsewhere.py:4)")


def test_layers_that_no_mode_calls_are_not_told(libraries):
    _, torchvision = libraries
    assert said(Of(lambda net, x: x, unused=nn.Dropout(0.4))) == []
    residual = torchvision.models.efficientnet.MBConvConfig(1.0, 3, 2, 8, 16, 1)  # whose skip, and path, are not used
    net = nn.Sequential(
        torchvision.models.efficientnet.MBConv(residual, 0.4, nn.BatchNorm2d), nn.Flatten(), nn.Dropout(0.3)
    )
    assert net[0].stochastic_depth.p == 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(net, torch.randn(2, 8, 7, 9), n=3)


def test_layers_that_training_mode_alone_calls_are_told():
    net = Of(lambda net, x: net.guarded(x) if net.training else x, guarded=nn.Dropout(0.4), unused=nn.Dropout(0.4))
    (words,) = said(net)
    assert "eval mode does not come to" in words
    assert words.endswith("(guarded)")


def test_attention_of_the_whole_network_hides_no_other_layer():
    def act(net, x):
        x = F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=net.attend.p if net.training else 0.0)
        return net.guarded(x[0]) if net.training else x[0]

    words = said(Of(act, attend=nn.Dropout(0.4), guarded=nn.Dropout(0.4)))
    assert len(words) == 2
    assert words[0].endswith("eval mode does not come to stay off in the thinned networks (guarded)")
    assert "within attention" in words[1]


def test_dropout_that_is_told_not_to_drop_stays_off():
    off = Of(lambda net, x: F.dropout(x, 0.5, training=False))
    assert torch.equal(sample(off, x(), n=5), sample(Of(lambda net, x: x), x(), n=5))
    assert said(off) == []


def test_of_two_calls_at_one_place_each_is_told_apart():
    def drop(x, on):
        return F.dropout(x, 0.5, on)

    def act(net, x):
        return torch.stack([drop(x, False), drop(x, net.training), drop(x, False)], 1)

    draws = sample(Of(act, rate=0.0), x(), n=5)
    for place, changes in enumerate([False, True, False]):
        assert (draws[0, :, place] != draws[1, :, place]).any() == changes


def test_alpha_dropout_drops_if_it_is_told_to_alone():
    for function in (F.alpha_dropout, F.feature_alpha_dropout):
        with pytest.raises(DropkitError, match=r"\(.*test_calls.py:\d+\) is told not to drop, in training mode either"):
            sample(Of(lambda net, x, function=function: function(x, 0.4), rate=0.0), x(), n=3)


def test_a_call_that_asks_a_layer_for_its_mode_drops():
    net = Of(lambda net, x: F.dropout(x, net.drop.p, net.drop.training), rate=0.0, drop=nn.Dropout(0.4))
    assert sample(net, x(), n=5).std(0).max() > 0


def test_layers_at_the_line_of_a_call_do_not_confuse_it():
    """A layer of torch's drops by the function, until a layer of dropkit's stands for it."""
    net = Of(lambda net, x: F.dropout(net.a(net.b(x)), 0.4, net.training), rate=0.0, a=nn.Dropout(0.4), b=Double(0.4))
    expected = {(net.function.__code__.co_filename, net.function.__code__.co_firstlineno): 1}
    calls = training_calls(net, x())
    assert {(place.rpartition(":")[0], int(place.rpartition(":")[2])): n for place, n in calls.functional.items()} == (
        expected
    )
    assert not calls.idle
    off = Of(lambda net, x: F.dropout(net.a(x), 0.4, False), rate=0.0, a=nn.Dropout(0.4))
    plain = Of(lambda net, x: net.a(x), rate=0.0, a=nn.Dropout(0.4))
    assert torch.equal(sample(off, x(), n=3), sample(plain, x(), n=3))


class Double(nn.Dropout):
    """A subclass that changes nothing of how it drops."""


BY_HAND = {
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.6)),
    "bernoulli_": lambda x: x * x.new_empty(len(x), 1).bernoulli_(0.6),
    "rand": lambda x: x * (torch.rand(x.shape) > 0.4),
    "noise": lambda x: x + torch.randn_like(x),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_random_numbers_of_training_mode_are_told_and_named_in_the_error(name):
    act = lambda net, x: BY_HAND[name](x) if net.training else x
    (words,) = said(Of(act))
    assert "such as noise or dropout by hand, stays off in the thinned networks" in words
    assert "test_calls.py:" in words
    with pytest.raises(DropkitError, match=r"its code draws random numbers in training mode \(.*test_calls.py:\d+\)"):
        sample(Of(act, rate=0.0), x(), n=3)


def test_torchvisions_function_is_no_lack_of_dropout(libraries):
    _, torchvision = libraries
    act = lambda net, x: torchvision.ops.stochastic_depth(x, 0.4, "row", net.training)
    with pytest.raises(DropkitError, match=r"random numbers in training mode \(.*stochastic_depth.py:\d+\).*DropPath"):
        sample(Of(act, rate=0.0), x(), n=3)


def test_random_numbers_of_both_modes_are_not_said_to_stay_off():
    (words,) = said(Of(lambda net, x: x + torch.randn_like(x)), chunk=3)
    assert "draws random numbers in eval mode" in words


def test_masks_that_are_given_away_are_told():
    act = lambda net, x: torch.native_dropout(x, 0.4, net.training)[0]
    (words,) = said(Of(act))
    assert "gives its mask away cannot be keyed: it stays off" in words
    with pytest.raises(DropkitError, match="by functions that give their mask away alone .*cannot be keyed"):
        sample(Of(act, rate=0.0), x(), n=3)


def test_what_is_called_is_listed_and_the_network_left_as_it_was():
    net = Of(lambda net, x: net.a(x), a=nn.Sequential(nn.Linear(11, 5), nn.BatchNorm1d(5)), unused=nn.Linear(11, 5))
    net.eval()
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    state, statistics = torch.get_rng_state(), net.a[1].running_mean.clone()
    calls = training_calls(net, x())
    assert calls.layers == {"", "a", "a.0", "a.1", "last"}
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()] == hooks
    assert not any(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.a[1].running_mean, statistics)


def test_a_network_that_takes_batches_of_one_size_is_heard():
    sizes = []

    def act(net, x):
        sizes.append(len(x))
        return x.view(7, 11)

    assert training_calls(Of(act), x()).layers == {"", "last"}
    assert sizes == [1, 7]
    assert training_calls(Of(lambda net, x: x / "none"), x()) == Calls()


def test_dropkits_layers_are_no_functions_of_its_own():
    net = nn.Sequential(
        dropkit.Dropout(0.4), dropkit.DropConnect(nn.Linear(11, 5), 0.4), dropkit.Residual(nn.Linear(5, 5), 0.4)
    )
    assert not training_calls(net, x()).own
    assert said(net) == []
