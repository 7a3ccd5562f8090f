"""The networks: sizes, names, what they refuse."""

import pytest
import torch

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.bn_cnn import BatchNormCNN
from dropkit.models.cnn import CNNWithDropout
from dropkit.models.mlp import MLP
from dropkit.models.networks import NETWORKS, build
from dropkit.models.paper_cnn import PaperCNN


def test_the_tutorials_network_has_its_parameters_and_names():
    net = CNNWithDropout()
    assert sum(p.numel() for p in net.parameters()) == 421_642
    layers = ("conv1", "conv2", "fc1", "fc2")
    assert list(net.state_dict()) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert net.dropout.p == 0.5
    assert CNNWithDropout(dropout_prob=0.3).dropout.p == 0.3


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 37, 23), (1, 8, 8)])
def test_every_network_takes_any_picture_and_number_of_classes(name, shape):
    net = build(name, input_shape=shape, num_classes=7)
    x = torch.randn(5, *shape)
    assert net(x).shape == (5, 7)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(("name", "smallest"), [("cnn", 4), ("bn-cnn", 8), ("paper-cnn", 8)])
def test_a_picture_too_small_for_the_poolings_is_refused(name, smallest):
    build(name, input_shape=(1, smallest, smallest), num_classes=2)
    with pytest.raises(DropkitError, match=f"at least {smallest}x{smallest}.*{smallest - 1}x{smallest}"):
        build(name, input_shape=(1, smallest - 1, smallest), num_classes=2)


def test_the_cnn_computes_what_the_tutorial_computes():
    """The same weights in the tutorial's functional style give the same logits."""
    torch.manual_seed(0)
    net = CNNWithDropout().eval()
    x = torch.randn(3, 1, 28, 28)
    y = torch.max_pool2d(torch.relu(net.conv1(x)), kernel_size=2, stride=2)
    y = torch.max_pool2d(torch.relu(net.conv2(y)), kernel_size=2, stride=2)
    y = net.fc2(torch.relu(net.fc1(y.view(y.size(0), -1))))
    assert torch.equal(net(x), y)


def test_batch_norm_and_depth():
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in BatchNormCNN().modules()) == 3
    assert [m.out_features for m in MLP(hidden=(11, 13)).modules() if isinstance(m, torch.nn.Linear)] == [11, 13, 10]


def test_an_unknown_network_is_named_with_the_nearest():
    with pytest.raises(DropkitError, match=r"unknown model 'cnnn'.*Did you mean 'cnn'\?"):
        build("cnnn", input_shape=(1, 28, 28), num_classes=10)


def test_the_papers_network_has_the_papers_layers():
    net = PaperCNN(input_shape=(3, 32, 32))
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (96, (5, 5), (1, 1)),
        (128, (5, 5), (1, 1)),
        (256, (5, 5), (1, 1)),
    ]
    assert [m.out_features for m in net.modules() if isinstance(m, torch.nn.Linear)] == [2048, 2048, 10]
    assert net.hidden.fc1.in_features == 256 * 4 * 4
    x = torch.randn(2, 3, 32, 32)
    y = x
    for stage in (1, 2, 3):
        conv = net.stages.get_submodule(f"conv{stage}")
        y = torch.max_pool2d(torch.relu(conv(y)), kernel_size=3, stride=2, ceil_mode=True)
    y = torch.relu(net.hidden.fc2(torch.relu(net.hidden.fc1(y.flatten(1)))))
    assert torch.equal(net.eval()(x), net.head(y))


def test_the_papers_rates_are_a_policy():
    net = PaperCNN(widths=(4, 4, 4, 8, 8))
    policy = {"input": 0.1, "conv[0]": 0.25, "conv[1]": 0.25, "conv[2]": 0.5, "fc": 0.5}
    after = {change.site: change.after for change in dropkit.insert(net, policy)}
    rates = {"input": 0.1, "conv[0]": 0.25, "conv[1]": 0.25, "conv[2]": 0.5}
    assert {site: after[site] for site in rates} == {
        site: f"Dropout(p={rate}, inplace=False)" for site, rate in rates.items()
    }
    assert (net.hidden.dropout1.p, net.hidden.dropout2.p) == (0.5, 0.5)


def test_widths_stand_behind_the_name():
    net = build("mlp:11-13", input_shape=(1, 8, 8), num_classes=3)
    assert [m.out_features for m in net.modules() if isinstance(m, torch.nn.Linear)] == [11, 13, 3]
    net = build("paper-cnn:2-3-4-5-6", input_shape=(3, 8, 8), num_classes=3)
    assert [len(m.bias) for m in net.modules() if hasattr(m, "bias")] == [2, 3, 4, 5, 6, 3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp:", "whole numbers from 1 to 65,536"),
        ("mlp:0", "such as mlp:1024-1024"),
        ("mlp:12-", "the units of each hidden layer"),
        ("mlp:99999", "65,536"),
        ("mlp:x", "whole numbers"),
        ("mlp:٣", "whole numbers"),
        ("paper-cnn:1-2-3", "5 whole numbers"),
        ("cnn:12", "model 'cnn' takes no widths, but got 'cnn:12': only mlp and paper-cnn do"),
    ],
)
def test_other_widths_are_refused(name, message):
    with pytest.raises(DropkitError, match=message):
        build(name, input_shape=(3, 8, 8), num_classes=3)
