"""Policies: the grammar, and that a network drops exactly what its policy says."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.errors import DropkitError
from dropkit.layers.base import DropLayer
from dropkit.layers.channels import Dropout2d
from dropkit.layers.keyed import keyed
from dropkit.models.networks import build
from dropkit.models.policy import Item, Policy
from dropkit.models.surgery import insert


def network(name, policy, shape=(1, 28, 28)):
    torch.manual_seed(0)
    net = build(name, input_shape=shape, num_classes=10)
    insert(net, Policy.parse(policy))
    return net


def rates(net):
    """{path: rate} of every dropout layer that drops something."""
    return {path: m.p for path, m in net.named_modules() if isinstance(m, DropLayer) and m.p > 0}


CASES = [
    ("cnn", "none", {}),
    ("cnn", "model", {"dropout": 0.5}),
    ("cnn", "fc=0.5", {"dropout": 0.5}),
    ("cnn", "fc=0.3", {"dropout": 0.3}),
    ("cnn", "head=0.2", {"dropout": 0.2}),
    ("cnn", "conv=0.1", {"pool1.site_dropout": 0.1, "pool2.site_dropout": 0.1}),
    ("cnn", "conv[1]=0.1", {"pool2.site_dropout": 0.1}),
    ("cnn", "conv@act=0.1", {"pool1.relu.site_dropout": 0.1, "pool2.relu.site_dropout": 0.1}),
    ("cnn", "conv=0.1,conv[1]=0.3", {"pool1.site_dropout": 0.1, "pool2.site_dropout": 0.3}),
    ("cnn", "pool*=0.4", {"pool1.site_dropout": 0.4, "pool2.site_dropout": 0.4}),
    ("cnn", "input=0.1,fc=0.5", {"conv1.input_dropout": 0.1, "dropout": 0.5}),
    ("bn-cnn", "none", {}),
    ("bn-cnn", "model", {}),
    ("bn-cnn", "fc=0.5", {"flatten.site_dropout": 0.5}),
    ("bn-cnn", "head=0.5", {"flatten.site_dropout": 0.5}),
    ("bn-cnn", "conv[0]=channel:0.2", {"stage1.pool.site_dropout": 0.2}),
    ("bn-cnn", "stage*=0.1", {f"stage{i}.pool.site_dropout": 0.1 for i in (1, 2, 3)}),
    ("mlp", "none", {}),
    ("mlp", "model", {"hidden.dropout1": 0.5, "hidden.dropout2": 0.5}),
    ("mlp", "fc[0]=0.2", {"hidden.dropout1": 0.2}),
    ("mlp", "head=0.2", {"hidden.dropout2": 0.2}),
    ("mlp", "input=0.2,fc=0.5", {"flatten.input_dropout": 0.2, "hidden.dropout1": 0.5, "hidden.dropout2": 0.5}),
]


@pytest.mark.parametrize(("name", "policy", "expected"), CASES)
def test_a_policy_is_total(name, policy, expected):
    assert rates(network(name, policy)) == expected


@pytest.mark.parametrize(("name", "policy", "expected"), CASES)
def test_weights_and_keys_do_not_depend_on_the_policy(name, policy, expected):
    plain, thinned = network(name, "none").state_dict(), network(name, policy).state_dict()
    assert list(plain) == list(thinned)
    assert all(torch.equal(plain[key], thinned[key]) for key in plain)


def test_the_layer_acts_on_the_output_of_its_stage():
    net = network("cnn", "conv[0]=0.5")
    seen = {}
    net.conv2.register_forward_pre_hook(lambda module, args: seen.update(read=args[0]))
    net.pool1.relu.register_forward_hook(lambda module, args, output: seen.update(act=output))
    with keyed(net, seed=3, step=0):
        net(torch.rand(7, 1, 28, 28))
    pooled = torch.max_pool2d(seen["act"], 2)
    dropped = (seen["read"] == 0) & (pooled > 0)
    kept = (seen["read"] != 0) & (pooled > 0)
    assert torch.equal(seen["read"][kept], pooled[kept] * 2)
    n = int(dropped.sum() + kept.sum())
    assert abs(int(dropped.sum()) - n / 2) < 5 * (n / 4) ** 0.5


def test_the_input_site_drops_pixels_before_the_first_layer():
    net = network("cnn", "input=0.5")
    seen = {}
    # after the site's own hook, which was registered before
    net.conv1.register_forward_pre_hook(lambda module, args: seen.update(read=args[0]))
    net(torch.ones(7, 1, 28, 28))
    assert set(seen["read"].unique().tolist()) == {0.0, 2.0}


def test_eval_is_the_network_without_dropout():
    x = torch.rand(3, 1, 28, 28)
    outputs = [network("cnn", policy).eval()(x) for policy in ("none", "input=0.3,conv=channel:0.5,fc=0.5")]
    assert torch.equal(*outputs)


def test_a_deep_copy_drops_with_its_own_layer():
    net = network("cnn", "conv=0.5")
    twin = copy.deepcopy(net)
    twin.pool1.site_dropout.p = 0.0
    twin.pool2.site_dropout.p = 0.0
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(twin(x), network("cnn", "none")(x))
    assert rates(net) == {"pool1.site_dropout": 0.5, "pool2.site_dropout": 0.5}


def test_channel_kind_at_an_own_layer_is_refused_and_changes_nothing():
    net = build("cnn", input_shape=(1, 28, 28), num_classes=10)
    with pytest.raises(DropkitError, match=r"fc\[0\] has none: use kind unit"):
        insert(net, Policy.parse("conv=0.1,fc=channel:0.5"))
    assert rates(net) == {"dropout": 0.5}


def test_channel_kind_drops_whole_maps():
    net = network("cnn", "conv[0]=channel:0.5")
    assert isinstance(net.pool1.site_dropout, Dropout2d)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("fc", "'fc' is not of the form site=rate"),
        ("", "'' is not of the form site=rate"),
        ("fc=", "not of the form"),
        ("fc=half", "the rate 'half' is not a number"),
        ("fc=1.5", "from 0 to 1, but got 1.5"),
        ("fc=-0.1", "from 0 to 1, but got -0.1"),
        ("fc=nan", "from 0 to 1, but got nan"),
        (torch.zeros(2, 3), r"such as 'conv=0.1,fc=0.5' or a mapping .*, but got a Tensor$"),
        ("fc=chanel:0.5", r"unknown kind of dropout .*'chanel'.*Did you mean 'channel'\?"),
        ("conv@pool=0.5", "unknown place .*'pool': allowed are act"),
        ("fc=0.5,", "'' is not of the form"),
        ("none,fc=0.5", "'none' is not of the form"),
    ],
)
def test_a_malformed_policy_says_what_is_wrong(policy, message):
    with pytest.raises(DropkitError, match=message):
        Policy.of(policy)


@pytest.mark.parametrize(
    ("name", "policy", "message"),
    [
        ("cnn", "cnv=0.1", r"unknown site .*'cnv'.*Did you mean 'conv'\?"),
        ("cnn", "conv[2]=0.1", r"unknown site .*'conv\[2\]'.*conv\[0\], conv\[1\]"),
        ("mlp", "conv=0.1", "unknown site .*'conv': allowed are input, fc, head"),
        ("cnn", "fc@act=0.1", r"only conv sites have the place @act, fc\[0\] has not"),
    ],
)
def test_a_policy_for_another_network_says_what_this_one_has(name, policy, message):
    with pytest.raises(DropkitError, match=message):
        network(name, policy)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["input", "conv", "fc", "conv[0]", "head", "layer4.*"]),
            st.sampled_from(["", "unit:", "channel:"]),
            st.floats(0, 1),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60)
def test_what_is_written_is_what_is_read(entries):
    text = ",".join(f"{site}={kind}{rate}" for site, kind, rate in entries)
    expected = tuple(Item(site, rate, kind[:-1] or "unit") for site, kind, rate in entries)
    assert Policy.parse(text).items == expected


@given(st.text(max_size=30))
@settings(max_examples=200)
def test_any_text_is_a_policy_or_a_clear_error(text):
    try:
        Policy.parse(text)
    except DropkitError as error:
        assert str(error).startswith(("policy", "unknown"))  # noqa: PT017


def test_a_model_that_lists_no_sites_is_refused():
    with pytest.raises(DropkitError, match="has to run once: give an example"):
        insert(torch.nn.Linear(3, 3), Policy.parse("fc=0.5"))
