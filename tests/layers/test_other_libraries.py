"""Other libraries as oracles, each where it is right: values are compared, and rates within bounds from n and p."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.layers import keyed

SIGMAS = 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(11)


def random(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_share(dropped, p):
    """Assert that of independent places, each dropped with probability p, a share near p is."""
    n = dropped.numel()
    assert 0 < int(dropped.sum()) < n
    assert abs(float(dropped.double().mean()) - p) < SIGMAS * math.sqrt(p * (1 - p) / n)


# Alpha dropout

ALPHA = [
    (dropkit.AlphaDropout, nn.AlphaDropout, lambda y: y),
    (dropkit.FeatureAlphaDropout, nn.FeatureAlphaDropout, lambda y: y.flatten(2)[:, :, 0]),  # one place of each map
]


def two_values(layer, constant):
    """Return what dropped and kept units take, where every unit is the same, and which are dropped."""
    y = layer(torch.full((211, 23, 2, 3), constant))
    low, high = y.min(), y.max()
    assert low < high
    assert bool(((y == low) | (y == high)).all())
    return low, high, y == low


@pytest.mark.parametrize(("p", "tolerance"), [(0.25, 1e-6), (0.5, 1e-6), (0.1, 5e-5), (0.3, 5e-5)])
@pytest.mark.parametrize(("ours", "theirs", "independent"), ALPHA)
def test_alpha_dropout_takes_the_values_of_torch_nn_s(ours, theirs, independent, p, tolerance):
    """torch.nn's modules run ATen's own code, whose output keeps mean 0 and variance 1 (that of torch._refs does not).

    dropkit rounds p: 1/4 and 1/2 are on its grid, others at most 2^-17 away, which a and b magnify a few times.
    """
    for constant in (-0.5, 1.5):
        low, high, dropped = two_values(ours(p), constant)
        their_low, their_high, their_dropped = two_values(theirs(p), constant)
        torch.testing.assert_close((low, high), (their_low, their_high), rtol=tolerance, atol=tolerance)
        assert_share(independent(dropped), p)
        assert_share(independent(their_dropped), p)


@pytest.mark.parametrize(("ours", "theirs", "independent"), ALPHA)
def test_alpha_dropout_is_torch_nn_s_affine_map_and_gradient(ours, theirs, independent):
    """Where torch.nn's module keeps a unit its output is a x + b: two of its constants give a and b."""
    low, at_0, _ = two_values(theirs(0.25), 0.0)
    a = two_values(theirs(0.25), 1.0)[1] - at_0
    x = random(7, 23, 5, 3).requires_grad_()
    y = ours(0.25)(x)
    dropped = (y - low).abs() < 1e-6
    torch.testing.assert_close(y, torch.where(dropped, low, a * x + at_0))
    maps = independent(dropped)
    assert 0 < int(maps.sum()) < maps.numel()
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(dropped, 0.0, a).expand_as(x))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_alpha_dropout_has_keras_constants(p):
    """Keras writes alpha, scale, a and b out (layers/regularization/alpha_dropout.py), as the paper gives them."""
    lowest = -1.6732632423543772 * 1.0507009873554805
    a = ((1 - p) * (1 + p * lowest**2)) ** -0.5
    b = -a * lowest * p
    low, high, _ = two_values(dropkit.AlphaDropout(p), 1.0)
    assert (float(low), float(high)) == pytest.approx((a * lowest + b, a + b), abs=2e-4)


# Gaussian dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_gaussian_dropout_has_keras_moments(p):
    """torch has none. Keras multiplies by noise of mean 1 and deviation sqrt(rate / (1 - rate)): the paper's."""
    n, deviation = 200_003, math.sqrt(p / (1 - p))
    x = random(n).abs() + 0.5
    noise = (dropkit.GaussianDropout(p)(x) / x).double()
    assert abs(float(noise.mean()) - 1) < SIGMAS * deviation / math.sqrt(n)
    assert abs(float(noise.var()) / deviation**2 - 1) < SIGMAS * math.sqrt(2 / n)
    within = float(((noise - 1).abs() < deviation).double().mean())
    normal = math.erf(math.sqrt(0.5))
    assert abs(within - normal) < SIGMAS * math.sqrt(normal * (1 - normal) / n)


# Dropout of samples


@pytest.fixture(params=["torchvision", "timm"])
def stochastic_depth(request, libraries):
    """Return another library's stochastic depth of rows as a function from p to a module.

    Both draw one Bernoulli(1 - p) for each sample and divide by 1 - p: the definition, in one line that can be read.
    """
    timm, torchvision = libraries
    if request.param == "timm":
        return timm.layers.DropPath
    return lambda p: torchvision.ops.StochasticDepth(p, "row")


@pytest.mark.parametrize("p", [0.25, 0.6])
def test_drop_path_drops_and_scales_samples_as_others(stochastic_depth, p):
    x = random(2003, 3, 2).requires_grad_()
    results = []
    for layer in (dropkit.DropPath(p), stochastic_depth(p)):
        y = layer(x)
        dropped = (y == 0).flatten(1).all(1)
        assert_share(dropped, p)
        results.append((y, torch.autograd.grad(y.square().sum(), x)[0], dropped))
    (y, gradient, dropped), (their_y, their_gradient, their_dropped) = results
    assert not dropped.equal(their_dropped)
    for here, there in ((y, their_y), (gradient, their_gradient)):
        both = ~dropped & ~their_dropped
        torch.testing.assert_close(here[both], there[both])
        assert not here[dropped].any()
        assert not there[their_dropped].any()


@pytest.mark.parametrize(("p", "training"), [(0.6, False), (0.0, True), (1.0, True)])
def test_drop_path_and_others_agree_where_nothing_is_drawn(stochastic_depth, p, training):
    x = random(5, 3, 2)
    ours, theirs = (layer.train(training)(x) for layer in (dropkit.DropPath(p), stochastic_depth(p)))
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, torch.zeros_like(x) if p == 1 else x)


@pytest.mark.parametrize("p", [0.25, 0.6])
def test_residual_is_a_block_that_ends_in_another_stochastic_depth(stochastic_depth, p):
    """Where both keep a sample, the branch of kept samples alone is that of the whole batch."""
    branch, x = nn.Linear(3, 3), random(211, 3)
    ours, theirs = dropkit.Residual(branch, p)(x), x + stochastic_depth(p)(branch(x))
    dropped, their_dropped = ((y == x).all(1) for y in (ours, theirs))
    assert_share(dropped, p)
    both = ~dropped & ~their_dropped
    assert bool(both.any())
    torch.testing.assert_close(ours[both], theirs[both])


@pytest.mark.parametrize(("p", "depth"), [(0.5, 1), (0.3, 4), (1.0, 7)])
def test_linear_rates_are_timm_s_behind_its_first(libraries, p, depth):
    """timm's begin with 0 for the first block, which the paper has as the input's: the ones behind are l / L * p."""
    timm, _ = libraries
    rates = timm.layers.calculate_drop_path_rates(p, depth + 1)
    assert [0.0, *dropkit.linear_rates(p, depth)] == pytest.approx(rates, abs=1e-6)


# Dropout of weights

CONVOLUTIONS = {
    "1d, stride and dilation": (
        lambda: nn.Conv1d(3, 5, 3, stride=2, padding=2, dilation=2),
        (3, 17),
        lambda x, w, b: F.conv1d(x, w, b, 2, 2, 2),
    ),
    "2d, each side its own": (
        lambda: nn.Conv2d(3, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
        (3, 7, 11),
        lambda x, w, b: F.conv2d(x, w, b, (1, 2), (2, 1), (2, 1)),
    ),
    "2d, groups": (
        lambda: nn.Conv2d(6, 9, 3, groups=3, bias=False),
        (6, 7, 5),
        lambda x, w, b: F.conv2d(x, w, b, groups=3),
    ),
    "2d, circular": (
        lambda: nn.Conv2d(3, 5, (3, 5), stride=2, padding=(1, 2), padding_mode="circular"),
        (3, 7, 11),
        lambda x, w, b: F.conv2d(F.pad(x, (2, 2, 1, 1), "circular"), w, b, 2),
    ),
    "2d, reflected, groups": (
        lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), groups=2, padding_mode="reflect"),
        (4, 7, 5),
        lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 2, 2), "reflect"), w, b, groups=2),
    ),
    "2d, replicated, dilation": (
        lambda: nn.Conv2d(3, 5, 3, padding=2, dilation=2, padding_mode="replicate"),
        (3, 7, 5),
        lambda x, w, b: F.conv2d(F.pad(x, (2, 2, 2, 2), "replicate"), w, b, dilation=2),
    ),
    "2d, same": (
        lambda: nn.Conv2d(3, 5, (3, 5), padding="same", dilation=(1, 2)),
        (3, 7, 11),
        lambda x, w, b: F.conv2d(F.pad(x, (4, 4, 1, 1)), w, b, dilation=(1, 2)),
    ),
    "3d": (
        lambda: nn.Conv3d(2, 3, 2, padding=(0, 1, 2), stride=(1, 1, 2)),
        (2, 3, 5, 4),
        lambda x, w, b: F.conv3d(x, w, b, (1, 1, 2), (0, 1, 2)),
    ),
}


def same_mask(layer):
    return keyed(nn.ModuleDict({"drop": layer}), seed=5, step=2)


def thinned_weight(layer, p):
    """Read the weight that a keyed DropConnect of a layer uses off its output, without knowing the mask.

    A mask depends on the weight's shape, not on geometry. So a plain convolution with the same weight is asked, on
    inputs as large as its kernel of which one unit is 1: what comes out is one column of the weight.
    """
    plain = type(layer)(layer.in_channels, layer.out_channels, layer.kernel_size, groups=layer.groups, bias=False)
    plain.weight = layer.weight
    drop = dropkit.DropConnect(plain, p)
    within = layer.weight[0].numel()
    units = torch.eye(within).view(within, *layer.weight.shape[1:])
    x = units.repeat(1, layer.groups, *[1] * (units.dim() - 2))  # each group sees the unit as its own
    with same_mask(drop), torch.no_grad():
        return drop(x).flatten(1).T.reshape(layer.weight.shape)


@pytest.mark.parametrize("p", [0.25, 0.6])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_drop_connect_is_torch_s_convolution_with_masked_weights(name, p):
    """torch.nn.functional's convolutions know of no mask: they get the weights that are left, and padded input."""
    make, shape, convolve = CONVOLUTIONS[name]
    layer, x = make(), random(3, *shape)
    weight = thinned_weight(layer, p)
    kept = weight != 0
    torch.testing.assert_close(weight, torch.where(kept, layer.weight.detach() / (1 - p), 0))
    assert_share(~kept, p)
    drop = dropkit.DropConnect(layer, p)
    with same_mask(drop):
        torch.testing.assert_close(drop(x), convolve(x, weight, layer.bias), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(drop.eval()(x), convolve(x, layer.weight, layer.bias))


# Dropout of blocks


def torchvision_s(libraries, axes, p, block):
    _, torchvision = libraries
    return {2: torchvision.ops.DropBlock2d, 3: torchvision.ops.DropBlock3d}[axes](p, block)


def timm_s(libraries, axes, p, block, shared=False):
    timm, _ = libraries
    assert axes == 2
    return timm.layers.DropBlock2d(p, block, couple_channels=shared)


SINGLE_UNITS = pytest.mark.parametrize(
    ("theirs", "ours", "sizes"),
    [
        (torchvision_s, dropkit.DropBlock2d, (7, 11)),
        (torchvision_s, dropkit.DropBlock3d, (3, 5, 7)),
        (timm_s, dropkit.DropBlock2d, (7, 11)),
    ],
)


@pytest.mark.parametrize("p", [0.1, 0.5])
@SINGLE_UNITS
def test_blocks_of_one_unit_are_dropped_and_scaled_as_others(libraries, theirs, ours, sizes, p):
    """Blocks of one unit cannot overlap: the paper's formula, which both use, gives p itself.

    Both normalise over the batch, so with one sample as dropkit does: by units / kept units.
    """
    x = random(1, 503, *sizes)
    spreads = []
    for layer in (ours(p, 1), theirs(libraries, len(sizes), p, 1)):
        y = layer(x)
        dropped = y == 0
        assert_share(dropped, p)
        kept = int((~dropped).sum())
        torch.testing.assert_close(y, torch.where(dropped, 0, x * (x.numel() / kept)), rtol=1e-5, atol=1e-6)
        assert torch.equal(layer.eval()(x), x)
        spreads.append(dropped.flatten(2).sum(2).double().var())
    # How many a map loses is binomial: its variance is n p q, and the variance of that among m maps is known.
    maps, n = 503, math.prod(sizes)
    variance = n * p * (1 - p)
    fourth = 3 * variance**2 + variance * (1 - 6 * p * (1 - p))
    error = math.sqrt((fourth - variance**2 * (maps - 3) / (maps - 1)) / maps)
    assert all(abs(float(spread) - variance) < SIGMAS * error for spread in spreads)


def test_shared_blocks_of_one_unit_are_timm_s_coupled_channels(libraries):
    """timm draws one mask for all channels of a sample then, whose formula is right for one unit."""
    x = random(503, 3, 5, 7)
    for layer in (dropkit.DropBlock2d(0.3, 1, shared=True), timm_s(libraries, 2, 0.3, 1, shared=True)):
        dropped = layer(x) == 0
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
        assert_share(dropped[:, 0], 0.3)


@pytest.mark.parametrize(("ours", "sizes"), [(dropkit.DropBlock2d, (7, 7)), (dropkit.DropBlock3d, (3, 3, 3))])
def test_blocks_as_large_as_the_map_are_torchvision_s_whole_maps(libraries, ours, sizes):
    """There is one place for such a block, so that torchvision's seed rate is p itself. (timm's is not: it pads.)"""
    x = random(1, 2003, *sizes)
    for layer in (ours(0.2, sizes[0]), torchvision_s(libraries, len(sizes), 0.2, sizes[0])):
        y = layer(x)
        maps = (y == 0).flatten(2)
        assert torch.equal(maps, maps[..., :1].expand_as(maps))
        assert_share(maps[..., 0], 0.2)
        kept = 1 - float(maps[..., 0].double().mean())
        torch.testing.assert_close(y, torch.where(y == 0, 0, x / kept), rtol=1e-5, atol=1e-6)


def test_rare_blocks_lie_where_torchvision_s_do(libraries):
    """torchvision's formula neglects overlaps, which hardly happen among rare blocks; its places are the paper's.

    A unit in n places' blocks is dropped with probability 1 - (1 - g)^n, between n g (1 - (n - 1) g / 2) and n g. So
    torchvision's g falls short of the one that gives p by less than (k^2 - 1) g / 2 of it, for blocks of k x k.
    """
    p, k, side, maps = 0.02, 3, 9, 30_011
    ours, theirs = (
        (layer(torch.ones(1, maps, side, side)) == 0).double().mean((0, 1))
        for layer in (dropkit.DropBlock2d(p, k), torchvision_s(libraries, 2, p, k))
    )
    places = side - k + 1
    g = p * side**2 / (k**2 * places**2)
    covering = torch.tensor([min(i + 1, k, side - i, places) for i in range(side)], dtype=torch.float64)
    probability = torch.outer(covering, covering) * g
    short = (k**2 - 1) * g / 2
    for share in (ours, theirs):
        bound = SIGMAS * (probability / maps).sqrt() + 2 * short * probability
        assert bool(((share - probability).abs() < bound).all())
    assert bool(((ours - theirs).abs() < SIGMAS * (2 * probability / maps).sqrt() + 2 * short * probability).all())
