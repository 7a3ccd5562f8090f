"""Converting other libraries' dropout layers: each class, at its rate, with what it does."""

import copy

import pytest
import torch
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.conversion import converted
from dropkit.models.surgery import convert, remove


@pytest.mark.parametrize(
    "name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_torch_s_layers(name, p):
    inplace = "Alpha" not in name
    net = nn.Sequential(getattr(nn, name)(p, inplace=inplace)).eval()
    (change,) = convert(net)
    assert type(net[0]) is getattr(dropkit, name)
    assert (net[0].p, net[0].inplace, net[0].training) == (p, inplace, False)
    assert str(change) == f"0: {name}(p={p}, inplace={inplace}) of torch.nn -> {net[0]!r}"
    (change,) = remove(net)
    assert type(net[0]) is getattr(nn, name)
    assert change.after.endswith("of torch.nn")


def test_it_drops_at_the_rate():
    net = nn.Sequential(nn.Dropout(0.3))
    convert(net)
    dropped = int((net(torch.ones(101, 103)) == 0).sum())
    n = 101 * 103
    assert abs(dropped - 0.3 * n) < 5 * (0.21 * n) ** 0.5
    with dropkit.keyed(net, seed=1, step=0):
        assert torch.equal(net(torch.ones(3, 5)), net(torch.ones(3, 5)))


def test_torchvision_s_layers(libraries):
    ops = libraries[1].ops
    path, batch = ops.StochasticDepth(0.3, "row"), ops.StochasticDepth(0.3, "batch")
    flat, cubic = ops.DropBlock2d(0.2, 3, inplace=True), ops.DropBlock3d(0.1, 5)
    net = nn.ModuleList([path, batch, flat, cubic])
    changes = convert(net)
    assert [type(layer) for layer in net] == [
        dropkit.DropPath, ops.StochasticDepth, dropkit.DropBlock2d, dropkit.DropBlock3d,
    ]  # fmt: skip
    assert [layer.p for layer in net] == [0.3, 0.3, 0.2, 0.1]
    assert (flat.block_size, flat.inplace, flat.shared) == (3, True, False)
    assert cubic.block_size == 5
    assert changes[0].before.endswith(" of torchvision")
    remove(net)
    assert (type(path), path.mode, path.p) == (ops.StochasticDepth, "row", 0.3)


def test_timm_s_layers(libraries):
    drop = pytest.importorskip("timm.layers.drop")
    net = nn.ModuleDict(
        {
            "path": drop.DropPath(0.3),
            "unscaled path": drop.DropPath(0.3, scale_by_keep=False),
            "coupled": drop.DropBlock2d(0.2, 3),
            "each": drop.DropBlock2d(0.2, 3, couple_channels=False, inplace=True),
            "noisy": drop.DropBlock2d(0.2, 3, with_noise=True),
            "scaled": drop.DropBlock2d(0.2, 3, gamma_scale=0.5),
            "unscaled": drop.DropBlock2d(0.2, 3, scale_by_keep=False),
        }
    )
    net["batchwise"] = drop.DropBlock2d(0.2, 3)
    net["batchwise"].batchwise = True
    before = {name: type(layer) for name, layer in net.items()}
    assert [change.path for change in convert(net)] == ["path", "coupled", "each"]
    assert (type(net["path"]), net["path"].p) == (dropkit.DropPath, 0.3)
    for name in ("coupled", "each"):
        layer = net[name]
        assert (type(layer), layer.p, layer.block_size) == (dropkit.DropBlock2d, 0.2, 3)
        assert (layer.shared, layer.inplace) == (name == "coupled", name == "each")
    remove(net)
    assert {name: type(layer) for name, layer in net.items()} == before
    assert net["path"].drop_prob == 0.3
    assert "p" not in vars(net["path"])


def test_coupled_channels_share_their_blocks_as_timm_s_do(libraries):
    """What is shared is the mask of a sample's channels; each sample has its own."""
    drop = pytest.importorskip("timm.layers.drop")
    torch.manual_seed(0)
    layer, x = drop.DropBlock2d(0.3, 3), torch.ones(5, 7, 11, 11)
    for turn in (lambda: None, lambda: convert(layer)):
        turn()
        zeros = layer(x) == 0
        assert torch.equal(zeros, zeros[:, :1].expand_as(zeros))
        assert not torch.equal(zeros[0], zeros[1])
        assert zeros.any()
    assert type(layer) is dropkit.DropBlock2d


def test_every_slot_the_root_and_what_is_nested():
    shared = nn.Dropout(0.3)
    net = nn.Sequential(shared, nn.Sequential(nn.Linear(3, 3), shared), nn.ModuleDict({"a": nn.Dropout2d(0.1)}))
    assert [change.path for change in convert(net)] == ["0", "2.a"]
    assert net[0] is net[1][1] is shared
    assert type(shared) is dropkit.Dropout
    root = nn.Dropout(0.3)
    (change,) = convert(root)
    assert type(root) is dropkit.Dropout
    assert str(change).startswith("the network: Dropout(p=0.3")
    remove(root)
    assert (type(root), root.p) == (nn.Dropout, 0.3)


def test_what_a_layer_becomes_is_a_whole_one():
    layer = nn.Dropout(0.3, inplace=True)
    convert(layer)
    fresh = dropkit.Dropout(0.3, inplace=True)
    assert {name for name in vars(layer) if not name.startswith("_dropkit")} == vars(fresh).keys()
    layer.p = 0.7
    assert layer.p == 0.7
    with pytest.raises(ValueError, match="has to be between 0 and 1, but got 7"):
        layer.p = 7
    assert repr(copy.deepcopy(layer)) == "Dropout(p=0.7, inplace=True)"


def test_subclasses_and_dropkit_s_own_are_left_alone():
    class Mine(nn.Dropout):
        def forward(self, x):
            return x + self.p

    net = nn.Sequential(Mine(0.3), dropkit.Dropout(0.3), nn.Dropout(0.1))
    assert [change.path for change in convert(net)] == ["2"]
    assert converted(net[0]) is converted(net[1]) is converted(nn.ReLU()) is None


@pytest.mark.parametrize("net", [nn.Linear(3, 2), nn.Sequential(dropkit.Dropout(0.5)), nn.Sequential()])
def test_nothing_to_convert_is_an_error(net):
    with pytest.raises(DropkitError, match="there is no dropout layer of torch.nn, torchvision or timm in this"):
        convert(net)


def test_twice_is_an_error_and_changes_nothing():
    net = nn.Sequential(nn.Dropout(0.3))
    convert(net)
    with pytest.raises(DropkitError, match="there is no dropout layer"):
        convert(net)
    remove(net)
    assert (type(net[0]), net[0].p) == (nn.Dropout, 0.3)
