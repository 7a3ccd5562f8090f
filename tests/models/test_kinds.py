"""Every kind of dropout that a policy can name: where it goes, where it cannot, and that networks train with it."""

import pytest
import torch

import dropkit
from dropkit.errors import DropkitError
from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.blocks import DropBlock2d
from dropkit.layers.gaussian import GaussianDropout
from dropkit.layers.learned import ConcreteDropout, ConcreteDropout2d
from dropkit.layers.weights import DropConnect
from dropkit.models.kinds import KINDS
from dropkit.models.networks import NETWORKS, build
from dropkit.models.policy import Policy
from dropkit.models.surgery import insert


def network(name, policy):
    torch.manual_seed(0)
    net = build(name, input_shape=(1, 28, 28), num_classes=10)
    insert(net, Policy.parse(policy))
    return net


@pytest.mark.parametrize(
    ("name", "policy", "path", "kind", "attributes"),
    [
        ("cnn", "conv=dropblock:0.1", "pool2.site_dropout", DropBlock2d, {"p": 0.1, "block_size": 7}),
        ("cnn", "conv=dropblock:0.1/3", "pool1.site_dropout", DropBlock2d, {"p": 0.1, "block_size": 3}),
        ("cnn", "conv@act=dropblock:0.1/3", "pool1.relu.site_dropout", DropBlock2d, {"block_size": 3}),
        ("cnn", "fc=gaussian:0.3", "dropout", GaussianDropout, {"p": 0.3}),
        ("cnn", "conv[0]=gaussian:0.3", "pool1.site_dropout", GaussianDropout, {"p": 0.3}),
        ("cnn", "fc=alpha:0.2", "dropout", AlphaDropout, {"p": 0.2}),
        ("cnn", "conv=feature-alpha:0.1", "pool1.site_dropout", FeatureAlphaDropout, {"p": 0.1}),
        ("cnn", "conv@act=feature-alpha:0.1", "pool2.relu.site_dropout", FeatureAlphaDropout, {"p": 0.1}),
        ("cnn", "fc=concrete:0.2", "dropout", ConcreteDropout, {"p": pytest.approx(0.2)}),
        ("bn-cnn", "conv=concrete:0.2", "stage3.pool.site_dropout", ConcreteDropout2d, {"p": pytest.approx(0.2)}),
        ("cnn", "fc=connect:0.5", "fc1", DropConnect, {"p": 0.5}),
        ("cnn", "conv[1]=connect:0.2", "conv2", DropConnect, {"p": 0.2}),
        ("mlp", "fc[1]=connect:0.5", "hidden.fc2", DropConnect, {"p": 0.5}),
        ("res-cnn", "path=0.2", "stage2.block", dropkit.layers.paths.Residual, {"p": 0.2}),
        ("res-cnn", "path[1]=sample:0.3", "stage2.block", dropkit.layers.paths.Residual, {"p": 0.3}),
        ("res-cnn", "path[1]=sample:0.3", "stage1.block", dropkit.layers.paths.Residual, {"p": 0.0}),
        ("res-cnn", "conv=0.1", "stage1.block", dropkit.layers.paths.Residual, {"p": 0.0}),
    ],
)
def test_a_kind_is_its_layer_at_its_place(name, policy, path, kind, attributes):
    layer = network(name, policy).get_submodule(path)
    assert type(layer) is kind
    assert {attribute: getattr(layer, attribute) for attribute in attributes} == attributes


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ("path=depth:0.3", [0.1, 0.2, 0.3]),
        ("path=depth:1", [1 / 3, 2 / 3, 1.0]),
        ("path=sample:0.3", [0.3, 0.3, 0.3]),
        ("path[1]=depth:0.3", [0.0, 0.3, 0.0]),  # of one branch that is named, it is the last
        ("stage[13].block=depth:0.4", [0.2, 0.0, 0.4]),
        ("path=depth:0.3,path[1]=0.5", [0.1, 0.5, 0.3]),  # the later item holds, the others keep their place
        ("path[1]=0.5,path=depth:0.3", [0.1, 0.2, 0.3]),
    ],
)
def test_the_rate_of_depth_grows_linearly_to_the_last_branch(policy, rates):
    net = network("res-cnn", policy)
    assert [net.get_submodule(f"stage{i}.block").p for i in (1, 2, 3)] == pytest.approx(rates)


def test_depth_is_what_linear_rates_gives_to_modules_named_by_their_paths():
    """Of modules the order is that of the network: no example input is needed."""
    net = torch.nn.Sequential(*(dropkit.layers.paths.DropPath(0.0) for _ in range(4)))
    insert(net, Policy.parse("[0-3]=depth:0.6"))
    assert [layer.p for layer in net] == pytest.approx(dropkit.linear_rates(0.6, 4))


def test_a_learned_rate_knows_the_layer_that_reads():
    net = network("cnn", "conv=concrete:0.1,fc=concrete:0.3")
    assert net.pool1.site_dropout.reader == (net.conv2, 32)
    assert net.pool2.site_dropout.reader == (net.fc1, 64)  # maps, not pixels
    assert net.dropout.reader == (net.fc2, 128)


def test_dropped_weights_leave_the_network_s_own_units_alone():
    """The policy names the site: what it does not drop there is not dropped."""
    net = network("cnn", "fc=connect:0.5")
    assert net.dropout.p == 0.0
    assert list(net.state_dict()) == list(network("cnn", "none").state_dict())


@pytest.mark.parametrize("policy", ["input=0.2,conv[0]=connect:0.5", "conv[0]=connect:0.5,input=0.2"])
@pytest.mark.parametrize(("name", "conv"), [("cnn", "conv1"), ("bn-cnn", "stage1.conv"), ("res-cnn", "stage1.conv")])
def test_an_input_and_the_weights_that_read_it_are_two_places(policy, name, conv):
    layer = network(name, policy).get_submodule(conv)
    assert (type(layer), layer.p, layer.input_dropout.p) == (DropConnect, 0.5, 0.2)


@pytest.mark.parametrize("policy", ["conv=concrete:0.1,fc=connect:0.5", "fc=connect:0.5,conv=concrete:0.1"])
def test_a_learned_rate_knows_the_layer_that_drops_its_weights(policy):
    net = network("cnn", policy)
    assert net.pool2.site_dropout.reader == (net.fc1, 64)
    assert type(net.fc1) is DropConnect
    dropkit.concrete_loss(net, 100).backward()


@pytest.mark.parametrize(
    ("name", "policy", "message"),
    [
        (
            "cnn",
            "fc=dropblock:0.1",
            r"kind 'dropblock' drops blocks of feature maps, but fc\[0\] has none: use kind unit",
        ),
        ("cnn", "input=connect:0.1", "kind 'connect' drops weights, but no layer of the network makes the input"),
        ("cnn", "input=concrete:0.1", "kind 'concrete' learns the rate of a hidden activation, and input is none"),
        ("cnn", "conv=sample:0.1", r"acts on residual branches alone, but conv\[0\] is none"),
        ("res-cnn", "path=unit:0.1", r"acts on no residual branch, but path\[0\] is one: use kind sample"),
        ("cnn", "path=0.1", "unknown site .*'path'"),
        ("cnn", "conv@act=connect:0.1", "kind 'connect' drops weights, which have no place @act"),
        ("cnn", "fc=0.5/3", "kind unit takes no number after its rate, but got /3"),
        ("cnn", "conv=dropblock:0.1/0", "the number after the rate is the block's side, 1 or more, but got '0'"),
        ("cnn", "conv=dropblock:0.1/x", "1 or more, but got 'x'"),
        ("cnn", "conv=dropblock:0.1/", "1 or more, but got ''"),
        ("cnn", "fc=feature-alpha:0.1", r"kind 'feature-alpha' drops whole feature maps, but fc\[0\] has none"),
        ("cnn", "conv=feature-alpha:1", "the rate of kind feature-alpha has to be below 1"),
        ("cnn", "conv=feature-alpha:0.1/3", "kind feature-alpha takes no number after its rate, but got /3"),
        ("res-cnn", "path=feature-alpha:0.1", r"acts on no residual branch, but path\[0\] is one"),
        ("res-cnn", "conv=depth:0.1", r"acts on residual branches alone, but conv\[0\] is none"),
        ("res-cnn", "path=depth:0.1/3", "kind depth takes no number after its rate, but got /3"),
        ("res-cnn", "path=depth:1.5", "a rate is the probability that a unit is dropped, from 0 to 1, but got 1.5"),
        ("cnn", "fc=gaussian:1", "the rate of kind gaussian has to be below 1"),
        ("cnn", "fc=concrete:0", "the rate of kind concrete has to be above 0"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(name, policy, message):
    net = build(name, input_shape=(1, 28, 28), num_classes=10)
    before = str(net)
    with pytest.raises(DropkitError, match=message):
        insert(net, Policy.parse(policy))
    assert str(net) == before


POLICIES = {
    "unit": "fc=0.5",
    "channel": "conv=channel:0.1",
    "dropblock": "conv=dropblock:0.1/3",
    "gaussian": "conv=gaussian:0.1,fc=gaussian:0.5",
    "alpha": "fc=alpha:0.1",
    "feature-alpha": "conv=feature-alpha:0.1",
    "concrete": "conv=concrete:0.1,fc=concrete:0.1",
    "connect": "conv=connect:0.1,fc=connect:0.5",
    "sample": "path=0.5",
    "depth": "path=depth:0.5",
}


def test_every_kind_is_trained_below():
    assert set(POLICIES) == set(KINDS)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_and_eval_is_the_plain_network(name, kind):
    try:
        net = network(name, POLICIES[kind])
    except DropkitError:
        pytest.skip(f"{name} has no such site")
    x, plain = torch.rand(16, 1, 28, 28), network(name, "none")
    assert torch.equal(net.eval()(x), plain.eval()(x))
    with dropkit.keyed(net.train(), seed=1, step=0):
        loss = net(x).logsumexp(1).mean()
        loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


def test_weights_that_are_computed_cannot_be_dropped():
    net = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 5)))
    with pytest.raises(DropkitError, match="are computed from others .*remove that first"):
        insert(net, {"0": "connect:0.3"})
