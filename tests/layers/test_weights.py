import copy
import pickle

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from dropkit.errors import DropkitError
from dropkit.layers import keyed
from dropkit.layers.weights import DropConnect
from dropkit.masks import Key, Rate, keep, site_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]

N, SEED, STEP, FIRST = 5, 2**63 + 1, 3, 13


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


# make the layer, shape of one sample
LAYERS = {
    "linear": (lambda: nn.Linear(7, 11), (7,)),
    "linear without bias": (lambda: nn.Linear(7, 11, bias=False), (7,)),
    "linear on rows": (lambda: nn.Linear(7, 11), (2, 3, 7)),
    "1d": (lambda: nn.Conv1d(3, 5, 3, stride=2, padding=2, dilation=2), (3, 13)),
    "2d": (lambda: nn.Conv2d(3, 5, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (3, 7, 11)),
    "2d without bias": (lambda: nn.Conv2d(3, 5, 3, bias=False), (3, 7, 11)),
    "2d in groups": (lambda: nn.Conv2d(6, 9, 3, groups=3), (6, 7, 5)),
    "2d depthwise": (lambda: nn.Conv2d(3, 6, 3, groups=3, padding="valid"), (3, 7, 5)),
    "2d circular": (lambda: nn.Conv2d(3, 5, (3, 5), padding=(1, 2), padding_mode="circular"), (3, 7, 11)),
    "2d same": (lambda: nn.Conv2d(3, 5, (4, 3), padding="same", dilation=(1, 3)), (3, 7, 11)),
    "2d same, reflected": (
        lambda: nn.Conv2d(3, 5, (4, 3), padding="same", dilation=(1, 3), padding_mode="reflect"),
        (3, 7, 11),
    ),
    "2d valid, replicated": (lambda: nn.Conv2d(3, 5, 3, padding="valid", padding_mode="replicate"), (3, 7, 11)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, padding=(0, 1, 2), groups=1), (2, 3, 5, 4)),
}

each_layer = pytest.mark.parametrize("name", LAYERS)


def made(name, **kinds):
    make, shape = LAYERS[name]
    return make().to(**kinds), torch.randn(N, *shape).to(**kinds)


def masked(layer, p, sample=0, samples=1):
    """A copy of the layer, by torch alone, with the weights of a sample's mask; and what is kept."""
    rate = Rate.of(p, 32)
    kept = keep(samples, layer.weight.numel(), rate, Key(SEED, site_of("drop"), STEP, sample)).view(
        samples, *layer.weight.shape
    )[0]
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.weight.copy_(torch.where(kept, layer.weight * rate.scale, 0))
    return copied, kept


def under_key(layer, first=FIRST):
    return keyed(nn.ModuleDict({"drop": layer}), seed=SEED, step=STEP, first_sample=first)


def gradients(y, *of):
    weighting = torch.linspace(1, 2, y.numel(), dtype=torch.float64).view_as(y)
    return torch.autograd.grad((y * weighting).sum(), of)


# What is dropped


@each_layer
@pytest.mark.parametrize("p", [0.25, 0.5])
def test_one_mask_for_the_batch_is_that_of_the_definition(name, p):
    layer, x = made(name, dtype=torch.float64)
    x.requires_grad_()
    other, kept = masked(layer, p)
    assert 0 < int(kept.sum()) < kept.numel()
    drop = DropConnect(layer, p)
    with under_key(drop):
        y = drop(x)
    expected = other(x)
    assert torch.equal(y, expected)
    ours, theirs = gradients(y, x, *drop.parameters()), gradients(expected, x, *other.parameters())
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], torch.where(kept, theirs[1] * Rate.of(p, 32).scale, 0))
    assert all(torch.equal(a, b) for a, b in zip(ours[2:], theirs[2:], strict=True))


@each_layer
def test_a_mask_for_each_sample_is_that_of_the_definition(name):
    layer, x = made(name, dtype=torch.float64)
    x.requires_grad_()
    drop = DropConnect(layer, 0.4, per_sample=True)
    with under_key(drop):
        y = drop(x)
    others = [masked(layer, 0.4, FIRST + sample) for sample in range(N)]
    expected = torch.stack([other(one) for one, (other, _) in zip(x, others, strict=True)])
    torch.testing.assert_close(y, expected)
    (dx, dw, *db), (dx_, *rest) = (
        gradients(y, x, *drop.parameters()),
        gradients(expected, x, *(parameter for other, _ in others for parameter in other.parameters())),
    )
    torch.testing.assert_close(dx, dx_)
    count = len(rest) // N
    dw_ = sum(
        torch.where(kept, g * Rate.of(0.4, 32).scale, 0) for g, (_, kept) in zip(rest[::count], others, strict=True)
    )
    torch.testing.assert_close(dw, dw_)
    if db:
        torch.testing.assert_close(db[0], sum(rest[1::2]))


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", ["linear on rows", "2d circular"])
def test_parts_of_a_batch_get_the_batchs_masks(name, per_sample):
    layer, x = made(name)
    drop = DropConnect(layer, per_sample=per_sample)
    with under_key(drop, 100):
        whole = drop(x)
    parts = []
    for start, part in ((0, x[:2]), (2, x[2:])):
        with under_key(drop, 100 + start):
            parts.append(drop(part))
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", ["linear", "2d circular", "1d"])
def test_unbatched_input_is_one_sample(name, per_sample):
    layer, x = made(name)
    drop = DropConnect(layer, per_sample=per_sample)
    with under_key(drop):
        torch.testing.assert_close(drop(x[0]), drop(x[:1])[0])


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("per_sample", [False, True])
def test_realised_rate_and_independence(p, per_sample):
    layer = nn.Linear(211, 307, bias=False)
    nn.init.ones_(layer.weight)
    drop, rate = DropConnect(layer, p, per_sample=per_sample), Rate.of(p, 32)
    # Each row of the identity shows one column of the weights, of its own sample's mask.
    eye = torch.eye(211)
    a, b = ((drop(eye) != 0).double() - rate.q for _ in range(2))
    assert abs(a.mean()) < 5 * (rate.p * rate.q / a.numel()) ** 0.5
    for one, other in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        assert abs((one * other).mean()) < 5 * rate.p * rate.q / one.numel() ** 0.5


@pytest.mark.parametrize("per_sample", [False, True])
def test_infinities_in_dropped_weights_leave_no_trace(per_sample):
    layer = nn.Linear(7, 11)
    _, kept = masked(layer, 0.5)
    with torch.no_grad():
        layer.weight.masked_fill_(~kept, float("inf"))
    drop, x = DropConnect(layer, 0.5, per_sample=per_sample), torch.randn(1, 7, requires_grad=True)
    with under_key(drop, 0):
        y = drop(x)
    expected = F.linear(x, torch.where(kept, layer.weight * 2, 0), layer.bias)
    torch.testing.assert_close(y, expected)
    dx, dw, _ = gradients(y, x, *drop.parameters())
    assert dx.isfinite().all()
    assert torch.equal(dw != 0, kept)


# Its place in a network


@each_layer
def test_it_has_what_the_layer_has(name):
    layer, x = made(name)
    model = nn.Sequential(nn.Identity(), layer)
    saved = copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    model[1] = DropConnect(layer, 0.5)
    assert list(model.state_dict()) == list(saved)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    with torch.no_grad():
        layer.weight.zero_()
    model.load_state_dict(saved, strict=True)
    for attribute in layer.__constants__:
        assert getattr(model[1], attribute) == getattr(layer, attribute)
    plain = layer(x)
    model.eval()
    assert torch.equal(model(x), plain)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), plain)
    assert torch.equal(copy.deepcopy(model)(x), plain)
    assert f"({layer.extra_repr()}), p=0.5, per_sample=False, evaluation='mean'" in repr(model[1])
    assert not DropConnect(layer.eval()).training


def test_training_moves_the_layers_own_weights():
    layer = nn.Linear(7, 11)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    drop, before = DropConnect(layer, 0.5), layer.weight.detach().clone()
    with under_key(drop):
        drop(torch.ones(N, 7)).sum().backward()
    assert torch.equal(layer.weight, before)
    optimizer.step()
    assert torch.equal(layer.weight != before, masked(layer, 0.5)[1])
    drop.double()
    assert drop(torch.ones(N, 7, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_ends(per_sample):
    layer, x = made("2d")
    state = torch.get_rng_state()
    drop = DropConnect(layer, 0.0, per_sample=per_sample)
    assert torch.equal(drop(x), layer(x))
    drop.p = 1.0
    y = drop(x)
    assert torch.equal(y, layer.bias.view(-1, 1, 1).expand_as(y))
    assert not gradients(y, layer.weight)[0].any()
    assert torch.equal(drop.eval()(x), layer(x))
    assert drop.train()(x[:0]).shape == layer(x[:0]).shape
    assert torch.equal(torch.get_rng_state(), state)


class Own(nn.Linear):
    """A layer that computes something of its own."""


def test_refusals():
    for other in (nn.ReLU(), nn.ConvTranspose2d(3, 5, 3), Own(3, 5), nn.LazyLinear(5), nn.Bilinear(3, 5, 7)):
        with pytest.raises(DropkitError, match=f"takes an nn.Linear.*but got {type(other).__name__}"):
            DropConnect(other)
    computed = [
        parametrizations.weight_norm(nn.Linear(3, 5)),
        prune.l1_unstructured(nn.Conv2d(3, 5, 3), "weight", 0.5),
        prune.l1_unstructured(nn.Conv2d(3, 5, 3), "bias", 0.5),
        nn.Linear(3, 5),
    ]
    parametrize.register_parametrization(computed[-1], "bias", nn.Identity())
    for layer in computed:
        with pytest.raises(DropkitError, match="are computed from others .*remove that first"):
            DropConnect(layer)
    with pytest.raises(DropkitError, match="unknown evaluation 'moment'.*Did you mean 'moments'"):
        DropConnect(nn.Linear(3, 5), evaluation="moment")
    with pytest.raises(ValueError, match="between 0 and 1"):
        DropConnect(nn.Linear(3, 5), 1.5)
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        DropConnect(nn.Linear(3, 5))(5)


# Moments


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("name", ["linear on rows", "2d circular"])
def test_moments_are_those_of_many_masks(name, per_sample):
    layer, x = made(name, dtype=torch.float64)
    drop, draws = DropConnect(layer, 0.3, per_sample=per_sample), 2000
    mean, variance = drop.moments(x)
    outputs = []
    for step in range(draws):
        with keyed(drop, seed=1, step=step), torch.no_grad():
            outputs.append(drop(x))
    found = torch.stack(outputs)
    # Of hundreds of outputs none is to be off by 6 standard errors. The excess kurtosis of a term,
    # (1 - 6 p q) / (p q), is negative at p = .3, and so is that of their sum: the relative error of the
    # variance is below the root of 2 / n.
    assert ((found.mean(0) - mean).abs() < 6 * (variance / draws).sqrt()).all()
    assert ((found.var(0) / variance - 1).abs() < 6 * (2 / (draws - 1)) ** 0.5).all()


def test_the_rectified_mean_is_that_of_many_masks():
    layer = nn.Linear(101, 7).double()
    x, samples, steps = torch.randn(1, 101, dtype=torch.float64), 2003, 31
    drop = DropConnect(layer, 0.5, per_sample=True, evaluation="moments")
    found = 0
    for step in range(steps):
        with keyed(drop, seed=1, step=step), torch.no_grad():
            found += drop(x.expand(samples, 101)).relu().mean(0) / steps
    y, deviation = drop.eval()(x)[0], drop.moments(x)[1][0].sqrt()
    assert torch.equal(y.relu(), y)
    # How far the sum of 101 terms is from normal: at p = .5 it has no skew, and Edgeworth's next term adds at most
    # |kurtosis| / 24 * max |t**2 - 1| phi(t) to a rectified mean; twice that, for the terms after it.
    terms = (layer.weight * x).square()
    kurtosis = 2 * terms.square().sum(1) / terms.sum(1).square()
    # Rectified, a variable varies no more than before.
    error = 5 * deviation / (samples * steps) ** 0.5 + 2 * kurtosis / 24 * 0.4 * deviation
    assert ((found - y).abs() < error).all()
    # The plain layer in its place is far off.
    assert ((found - layer(x)[0].relu()).abs() > 5 * error).any()


def test_the_rectified_mean_by_integration():
    layer = nn.Linear(2, 9).double()
    drop, x = DropConnect(layer, 0.5, evaluation="moments").eval(), torch.tensor([[0.3, 0.1]], dtype=torch.float64)
    with torch.no_grad():
        layer.bias.copy_(torch.linspace(-3, 3, 9))
    mean, variance = drop.moments(x)
    t = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = torch.exp(-t.square() / 2) / (2 * torch.pi) ** 0.5
    u = mean.unsqueeze(-1) + variance.sqrt().unsqueeze(-1) * t
    torch.testing.assert_close(drop(x), torch.trapezoid(u.relu() * density, t), rtol=1e-6, atol=1e-9)


def test_the_rectified_mean_is_never_negative():
    layer = nn.Linear(1, 1009)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.linspace(-40, 0, 1009))
    y = DropConnect(layer, 0.5, evaluation="moments").eval()(torch.ones(1, 1))
    assert (y >= 0).all()
    assert (y > 0).any()


def test_moments_at_the_ends_and_without_variance():
    layer, x = made("linear")
    for p in (0.0, 1.0):
        drop = DropConnect(layer, p, evaluation="moments").eval()
        assert torch.equal(drop(x), layer(x))
        assert not drop.moments(x)[1].any()
    drop = DropConnect(layer, 0.5, evaluation="moments").eval()
    x = torch.zeros(1, 7, requires_grad=True)
    y = drop(x)
    assert torch.equal(y, layer(x).relu())
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, torch.autograd.grad(layer(x).relu().sum(), x)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_half_types(dtype):
    layer = nn.Linear(7, 11, dtype=dtype)
    drop, x = DropConnect(layer, 0.5, evaluation="moments").eval(), torch.full((N, 7), 500.0, dtype=dtype)
    mean, variance = drop.moments(x)
    assert (mean.dtype, variance.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(variance, F.linear(x.float() ** 2, layer.weight.float() ** 2))
    wide = DropConnect(copy.deepcopy(layer).float(), 0.5, evaluation="moments").eval()
    assert drop(x).dtype == dtype
    torch.testing.assert_close(drop(x).float(), wide(x.float()), rtol=2e-2, atol=2.0)


# Ways of running


@pytest.mark.parametrize("per_sample", [False, True])
def test_compiled_in_one_graph_and_one_compilation(per_sample):
    model = nn.Sequential(
        DropConnect(nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), 0.4, per_sample=per_sample),
        nn.Flatten(),
        DropConnect(nn.Linear(5 * 7 * 7, 3), 0.5, per_sample=per_sample),
    )
    x = torch.randn(N, 3, 7, 7)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(4):
        model[0].p = 0.2 + 0.1 * step
        with keyed(model, seed=1, step=step, first_sample=step):
            ours, eager = compiled(x), model(x)
        torch.testing.assert_close(ours, eager)
        for a, b in zip(gradients(ours, *model.parameters()), gradients(eager, *model.parameters()), strict=True):
            torch.testing.assert_close(a, b)
    assert counter.frame_count == 1
    torch.manual_seed(7)
    fresh = compiled(x)
    torch.manual_seed(7)
    torch.testing.assert_close(fresh, model(x))


def test_moments_compiled():
    drop, x = DropConnect(nn.Linear(7, 11), 0.5, evaluation="moments").eval(), torch.randn(N, 7)
    torch.testing.assert_close(torch.compile(drop, backend="aot_eager", fullgraph=True)(x), drop(x))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_exported(strict, per_sample):
    layer, x = made("2d in groups")
    drop = DropConnect(layer, per_sample=per_sample)
    exported = torch.export.export(drop, (x,), strict=strict).module()
    torch.manual_seed(7)
    first, second = exported(x), exported(x)
    torch.manual_seed(7)
    torch.testing.assert_close(first, drop(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("with_key", [False, True])
@pytest.mark.parametrize("per_sample", [False, True])
def test_checkpointing_recomputes_the_same_mask(reentrant, with_key, per_sample):
    drop = DropConnect(nn.Linear(7, 7), per_sample=per_sample)
    block = nn.Sequential(drop, nn.Tanh())
    x = torch.randn(N, 7, requires_grad=True)
    found = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(29)
        block.zero_grad()
        if with_key:
            with keyed(block, seed=1, step=2, first_sample=3):
                y = run(x).square().sum()
        else:
            y = run(x).square().sum()
        torch.rand(3)  # another draw between forward and the recomputation, which comes after the block
        y.backward()
        found.append([parameter.grad.clone() for parameter in block.parameters()])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    assert found[0][0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["linear on rows", "2d circular"])
def test_half_types_round_the_weights_once(name, dtype):
    layer, x = made(name, dtype=dtype)
    other, _ = masked(layer, 0.25)
    drop = DropConnect(layer, 0.25)
    with under_key(drop):
        assert torch.equal(drop(x), other(x))
    each = DropConnect(layer, 0.25, per_sample=True)
    with under_key(each, 0):
        y = each(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y[0], other(x[0]), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_sample", [False, True])
def test_autocast(name, per_sample):
    layer, x = made(name)
    drop = DropConnect(layer, per_sample=per_sample)
    with under_key(drop), torch.autocast("cpu", torch.bfloat16):
        y = drop(x)
        assert drop.moments(x)[1].dtype == torch.float32
    with under_key(drop):
        expected = drop(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("per_sample", [False, True])
def test_channels_last(per_sample):
    layer, x = made("2d")
    drop = DropConnect(layer, per_sample=per_sample)
    with under_key(drop):
        expected = drop(x)
        layer.to(memory_format=torch.channels_last)
        y = drop(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("per_sample", [False, True])
def test_vmap_and_grad(per_sample):
    layer, x = made("linear")
    drop = DropConnect(layer, per_sample=per_sample)
    for randomness in ("different", "same"):
        y = torch.func.vmap(drop, randomness=randomness)(torch.stack([x, x]))
        assert torch.allclose(y[0], y[1]) == (randomness == "same")
    with under_key(drop):
        gradient = torch.func.grad(lambda x: drop(x).sum())(x)
        x.requires_grad_()
        torch.testing.assert_close(gradient, torch.autograd.grad(drop(x).sum(), x)[0])


@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_a_layer_with_hooks_is_refused(register):
    layer = nn.Linear(3, 2)
    handle = getattr(layer, register)(lambda *given: None)
    with pytest.raises(DropkitError, match="this Linear has hooks, which would be lost: remove them"):
        DropConnect(layer, 0.5)
    handle.remove()
    DropConnect(layer, 0.5)
