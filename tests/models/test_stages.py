"""Sites of networks of many styles: where they are, in which role, and what makes and reads them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.models.networks import build
from dropkit.models.stages import Stages
from dropkit.models.surgery import insert, sites
from dropkit.models.trace import trace


def picture(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


X = picture(5, 2, 8, 8)


def where(found):
    """(name, host; '<' before one at whose input the layer hangs) of each site."""
    return [(site.name, f"{'<' if site.at_input else ''}{site.path}") for site in found]


class Tutorial(nn.Module):
    def __init__(self, channels=2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 5, 3, padding=1)
        self.fc1 = nn.Linear(5 * 2 * 2, 7)
        self.fc2 = nn.Linear(7, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 5 * 2 * 2)
        x = F.dropout(F.relu(self.fc1(x)), 0.25, self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def test_functional_activations_and_poolings():
    found = sites(Tutorial(), X)
    assert where(found) == [("input", "<conv1"), ("conv[0]", "<conv2"), ("conv[1]", "<fc1"), ("fc[0]", "<fc2")]
    assert [site.shape for site in found] == [(2, 8, 8), (3, 4, 4), (5, 2, 2), (7,)]
    assert [(site.made_by, site.read_by) for site in found] == [
        (None, "conv1"), ("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2"),
    ]  # fmt: skip
    assert [site.spatial for site in found] == [True, True, True, False]
    assert [site.dropout for site in found] == [None, None, None, "dropout 0.25 in forward"]
    assert not any(site.own or site.before_norm or site.act_path for site in found)


def test_shares():
    found = sites(Tutorial(), X)
    parameters = [0, 3 * 2 * 9 + 3, 5 * 3 * 9 + 5, 20 * 7 + 7]
    total = sum(parameters) + 7 * 2 + 2
    assert [site.parameters or 0 for site in found] == pytest.approx([n / total for n in parameters])
    units = [2 * 64, 3 * 16, 5 * 4, 7]
    assert [site.activations for site in found] == pytest.approx([n / sum(units) for n in units])


@pytest.mark.parametrize("kind", [nn.Dropout, nn.AlphaDropout, dropkit.Dropout, dropkit.GaussianDropout])
def test_a_dropout_layer_of_its_own_is_the_site(kind):
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 7), nn.ReLU(), kind(0.25), nn.Linear(7, 2))
    *_, fc = sites(net, X)
    assert (fc.name, fc.path, fc.own, fc.dropout) == ("fc[0]", "3", True, f"{kind.__name__} 0.25 (3)")


def test_relu_dropout_is_the_activation_and_drops_there():
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 7), dropkit.ReLUDropout(0.25), nn.Linear(7, 2))
    *_, fc = sites(net, X)
    assert (fc.name, fc.path, fc.own, fc.dropout) == ("fc[0]", "2", False, "ReLUDropout 0.25 (2)")


def test_modules_norms_and_the_activation_s_own_place():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 5, 2), nn.Tanh()),
        nn.Sequential(nn.Conv2d(5, 7, 1), nn.BatchNorm2d(7), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(7, 2),
    )
    found = sites(net, X)
    assert where(found) == [
        ("input", "<0.0"), ("conv[0]", "0.3"), ("conv[1]", "1.1"), ("conv[2]", "2.1"), ("head", "2.2"),
    ]  # fmt: skip
    assert [site.act_path for site in found] == [None, "0.2", "1.1", None, None]
    assert [site.before_norm for site in found] == [True, False, True, False, False]


class PreActivation(nn.Module):
    """norm, relu, conv, twice, beside the identity."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1)
        self.norm1, self.norm2, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        x = self.stem(x)
        y = self.conv1(F.relu(self.norm1(x)))
        x = x + self.conv2(F.relu(self.norm2(y), inplace=True))
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


def test_pre_activation():
    assert where(sites(PreActivation(), X)) == [
        ("input", "<stem"), ("conv[0]", "<conv1"), ("conv[1]", "<conv2"), ("path[0]", "conv2"), ("head", "<fc"),
    ]  # fmt: skip


class Residual(nn.Module):
    """The usual block, in place, with one ReLU for all of its places."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inner, outer, 3, stride, 1), nn.BatchNorm2d(outer)
        self.conv2, self.norm2 = nn.Conv2d(outer, outer, 3, 1, 1), nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.beside = nn.Conv2d(inner, outer, 1, stride) if inner != outer else None

    def forward(self, x):
        identity = x if self.beside is None else self.beside(x)
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += identity
        return self.relu(y)


def test_residual_blocks():
    net = nn.Sequential(Residual(2, 3, 2), Residual(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    net = nn.Sequential(Residual(2, 3, 2), Residual(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert where(sites(net, X)) == [
        ("input", "<0"), ("conv[0]", "<0.conv2"), ("path[0]", "0.norm2"), ("conv[1]", "0"), ("conv[2]", "<1.conv2"),
        ("path[1]", "1.norm2"), ("conv[3]", "1"), ("head", "2"),
    ]  # fmt: skip


def test_functional_residual():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
            self.fc = nn.Linear(128, 2)

        def forward(self, x):
            x = torch.add(x, self.b(F.relu(self.a(x))))
            return self.fc(torch.flatten(F.gelu(x), 1))

    # The sum reads the input, too: it is dropped for both.
    assert where(sites(Net(), X)) == [("input", "<"), ("conv[0]", "<b"), ("path[0]", "b"), ("conv[1]", "<fc")]


def test_a_sum_of_two_equal_ways_has_no_branch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)

        def forward(self, x):
            return self.a(x) + self.b(x)

    assert where(sites(Net(), X)) == [("input", "<")]  # the network itself is what reads it for both


def test_concatenated_ways():
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.pool = nn.Conv2d(2, 3, 1), nn.MaxPool2d(3, 1, 1)
            self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 2, 1)
            self.last = nn.Conv2d(10, 2, 1)

        def forward(self, x):
            x = self.stem(x).relu()
            ways = [F.relu(self.a(x)), F.relu(self.b(x)), F.relu(self.c(self.pool(x)))]
            return self.last(torch.cat(ways, 1)).mean((2, 3))

    found = sites(Inception(), X)
    # Where functional code made it, each that reads it has a site.
    assert where(found) == [
        ("input", "<stem"), ("conv[0]", "<a"), ("conv[1]", "<b"), ("conv[2]", "pool"), ("conv[3]", "<last"),
    ]  # fmt: skip
    assert [site.shape for site in found[1:]] == [(3, 8, 8)] * 3 + [(10, 8, 8)]


def test_squeeze_and_excitation_has_no_sites_within_its_gate():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1)

        def forward(self, x):
            s = F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))
            return x * torch.sigmoid(self.up(s))

    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), Gate(), nn.Conv2d(3, 2, 1), nn.Flatten())
    found = sites(net, X)
    assert where(found) == [("input", "<0"), ("conv[0]", "2")]
    assert found[1].made_by == "0"


class Attention(nn.Module):
    """A transformer's block as of ViT: patches, attention, an MLP, a class token."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(2, 6, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.norm1, self.norm2, self.norm = nn.LayerNorm(6), nn.LayerNorm(6), nn.LayerNorm(6)
        self.qkv, self.proj = nn.Linear(6, 18), nn.Linear(6, 6)
        self.fc1, self.act, self.fc2 = nn.Linear(6, 11), nn.GELU(), nn.Linear(11, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = self.qkv(self.norm1(x)).reshape(x.shape[0], 5, 3, 2, 3).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.proj(y)
        x = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return self.head(self.norm(x)[:, 0])


def test_a_transformer_s_block():
    found = sites(Attention(), X)
    assert where(found) == [
        ("input", "<patch"), ("path[0]", "proj"), ("fc[0]", "act"), ("path[1]", "fc2"), ("head", "<head"),
    ]  # fmt: skip
    assert [site.shape for site in found[1:4]] == [(5, 6), (5, 11), (5, 6)]
    assert not any(site.spatial for site in found[1:])


def test_a_block_of_convnext():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.LayerNorm(3)
            self.up, self.act, self.down = nn.Linear(3, 12), nn.GELU(), nn.Linear(12, 3)
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            y = self.norm(self.conv(x).permute(0, 2, 3, 1))
            return x + self.scale * self.down(self.act(self.up(y))).permute(0, 3, 1, 2)

    net = nn.Sequential(nn.Conv2d(2, 3, 1), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    assert [name for name, _ in where(sites(net, X))] == ["input", "conv[0]", "fc[0]", "conv[1]", "head"]


class Shared(nn.Module):
    """One ReLU, one pooling and one dropout layer for all places."""

    def __init__(self):
        super().__init__()
        self.relu, self.pool, self.drop = nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5)
        self.conv1, self.conv2 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(20, 7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.drop(self.pool(self.relu(self.conv1(x))))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc2(self.drop(self.relu(self.fc1(x.flatten(1)))))


def test_shared_layers_host_nothing():
    found = sites(Shared(), X)
    assert where(found) == [("input", "<conv1"), ("conv[0]", "<conv2"), ("conv[1]", "<fc1"), ("fc[0]", "<fc2")]
    assert [site.dropout for site in found] == [None, "Dropout 0.5 (drop)", None, "Dropout 0.5 (drop)"]
    assert not any(site.own or site.act_path for site in found)


def test_a_convolution_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.relu1, self.relu2, self.fc = nn.ReLU(), nn.ReLU(), nn.Linear(3 * 64, 2)

        def forward(self, x):
            x = self.relu1(self.conv(self.stem(x)))
            return self.fc(self.relu2(self.conv(x)).flatten(1))

    found = sites(Twice(), X)
    assert where(found) == [("input", "<stem"), ("conv[0]", "stem"), ("conv[1]", "relu1"), ("conv[2]", "relu2")]
    assert [site.made_by for site in found] == [None, "stem", None, None]  # no one layer's


def test_weights_that_two_layers_share():
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    net[3].weight = net[1].weight
    found = sites(net, X)
    assert where(found) == [("input", "<1"), ("fc[0]", "2"), ("fc[1]", "4")]
    assert [site.made_by for site in found] == [None, "1", "3"]
    total = 128 * 128 + 2 * 128 + 2 * 128 + 2
    assert found[1].parameters == pytest.approx((128 * 128 + 128) / total)


def test_one_module_under_two_names_has_the_first():
    net = Tutorial()
    net.another, net.conv3 = net.fc1, net.conv1
    assert where(sites(net, X)) == where(sites(Tutorial(), X))


def test_sequentials_within_sequentials_host_nothing():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.ReLU(), nn.Sequential(nn.MaxPool2d(2))), nn.Flatten(),
                        nn.Linear(27, 2))  # fmt: skip
    assert where(sites(net, X)) == [("input", "<0"), ("conv[0]", "1.1.0")]


@pytest.mark.parametrize(
    ("net", "x", "expected"),
    [
        (nn.Linear(3, 2), torch.ones(5, 3), [("input", "<")]),
        (nn.Conv2d(2, 3, 3), X, [("input", "<")]),
        (nn.Dropout(0.5), torch.ones(5, 3), []),
        (nn.ReLU(), torch.ones(5, 3), []),
        (nn.Sequential(nn.Linear(3, 2)), torch.ones(5, 3), [("input", "<0")]),
        (nn.Sequential(), torch.ones(5, 3), []),
    ],
)
def test_the_root(net, x, expected):
    assert where(sites(net, x)) == expected


@pytest.mark.parametrize("axes", [1, 3])
def test_other_numbers_of_axes(axes):
    conv, pool = (nn.Conv1d, nn.MaxPool1d) if axes == 1 else (nn.Conv3d, nn.MaxPool3d)
    net = nn.Sequential(conv(2, 3, 3), nn.ReLU(), pool(2), conv(3, 5, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    x = picture(5, 2, *[9] * axes)
    net(x)
    found = sites(net, x)
    assert where(found) == [("input", "<0"), ("conv[0]", "2"), ("conv[1]", "4")]
    assert [site.shape for site in found] == [(2, *[9] * axes), (3, *[3] * axes), (5, *[2] * axes)]
    assert all(site.spatial for site in found)
    for kind in ("channel", "dropblock"):
        insert(net, f"conv={kind}:0.5", x)
        assert type(net[2].site_dropout).__name__.endswith(f"{axes}d")
        net(x)


def test_transposed_convolutions():
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 2, 1))
    assert where(sites(net, X)) == [("input", "<0"), ("conv[0]", "1")]


class Auxiliary(nn.Module):
    """A second classifier halfway, in training alone, and a tuple of outputs then."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.conv2, self.relu2 = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 3), nn.ReLU()
        self.aux, self.fc = nn.Linear(3, 2), nn.Linear(5, 2)

    def forward(self, x):
        x = self.relu1(self.conv1(x))
        halfway = self.aux(x.mean((2, 3))) if self.training else None
        y = self.fc(self.relu2(self.conv2(x)).mean((2, 3)))
        return (y, halfway) if self.training else y


def test_a_classifier_halfway():
    found = where(sites(Auxiliary(), X))
    assert ("head", "<aux") in found
    assert [name for name, _ in found].count("conv[0]") == 1
    assert found[-1] == ("head", "<fc")
    net = Auxiliary()
    insert(net, "conv=0.5", X)
    assert (net.relu1.site_dropout.p, net.relu2.site_dropout.p) == (0.5, 0.5)


@pytest.mark.parametrize("pack", [tuple, lambda pair: {"mask": pair[1], "image": pair[0]}])
def test_two_inputs(pack):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.mask, self.fc = nn.Conv2d(2, 3, 3), nn.Conv2d(1, 3, 3), nn.Linear(3 * 36, 2)

        def forward(self, image, mask):
            y = F.relu(self.image(image)) * F.relu(self.mask(mask))
            return self.fc(y.flatten(1))

    net = Net()
    assert where(sites(net, pack([X, picture(5, 1, 8, 8)]))) == [("input", "<image"), ("conv[0]", "<fc")]


def test_a_batch_of_one():
    assert where(sites(Tutorial(), X[:1])) == where(sites(Tutorial(), X))


@pytest.mark.parametrize(("net", "x"), [(Tutorial(), X[0]), (nn.Linear(3, 2), torch.ones(3)),
                                        (nn.Conv1d(2, 3, 2), torch.ones(2, 5))])  # fmt: skip
def test_one_sample_without_a_batch_is_refused(net, x):
    with pytest.raises(DropkitError, match="without a batch. Give a batch, such as example.unsqueeze"):
        sites(net, x)


def test_a_network_whose_weights_are_its_own():
    """Nothing but functions, with the network's own parameters: the network itself is the host of its input."""

    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(7, 3)), nn.Parameter(torch.ones(2, 7))

        def forward(self, x):
            return F.linear(F.linear(x, self.a).relu(), self.b)

    assert where(sites(Bare(), torch.ones(5, 3))) == [("input", "<")]


def test_dropkit_s_own_residual_block():
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
    (*_, path) = [s for s in sites(nn.Sequential(dropkit.Residual(branch, 0.25), nn.Conv2d(2, 3, 1)), X)
                  if s.role == "path"]  # fmt: skip
    assert (path.path, path.own, path.dropout) == ("0", True, "Residual 0.25 (0)")


@pytest.mark.parametrize("name", ["cnn", "bn-cnn", "mlp"])
def test_what_is_traced_is_what_dropkit_s_networks_declare(name):
    net = build(name, input_shape=(1, 16, 16), num_classes=3)
    traced, declared = Stages(net, trace(net, torch.zeros(2, 1, 16, 16))).sites(), net.dropout_sites()

    def essence(site):
        return (site.role, site.index, site.spatial, site.made_by, site.read_by, site.own)

    for site, known in zip(traced, declared, strict=True):
        if site.role == "input":  # the last layer that can drop pixels, or the first
            assert (known.role, site.at_input, known.at_input) == ("input", True, True)
        else:
            assert essence(site) == essence(known)


def test_the_small_residual_network_declares_what_is_there():
    net = build("res-cnn", input_shape=(1, 16, 16), num_classes=3)
    traced = {site.path for site in Stages(net, trace(net, torch.zeros(2, 1, 16, 16))).sites()}
    assert {site.path for site in net.dropout_sites() if site.role in ("conv", "path")} <= traced


def test_dropout_behind_the_global_pooling_is_the_head_s_alone():
    net = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3, 2))
    )
    found = sites(net, torch.zeros(2, 1, 7, 7))
    assert [(site.name, site.path, site.own) for site in found[1:]] == [("conv[0]", "1", False), ("head", "3", True)]
