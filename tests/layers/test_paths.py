import copy

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.checkpoint import checkpoint

from dropkit.errors import DropkitError
from dropkit.layers import Dropout, keyed
from dropkit.layers.paths import DropPath, Residual, drop_path, linear_rates
from dropkit.masks import Key, Rate, keep, site_of

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")

INF, NAN = float("inf"), float("nan")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


def kept_samples(samples, p, seed, step, first, path=""):
    """Which samples the definition keeps: one unit each, 32 bits."""
    return keep(samples, 1, Rate.of(p, 32), Key(seed, site_of(path), step, first)).flatten()


# drop_path


@pytest.mark.parametrize("shape", [(23,), (23, 3), (23, 3, 5, 7), (23, 2, 3, 2, 2)])
@pytest.mark.parametrize("p", [0.25, 0.5])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_mask_is_that_of_the_definition(shape, p, inplace):
    layer = DropPath(p, inplace)
    x = torch.randn(shape)
    with keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=13):
        y = layer(given := x.clone())
    kept = kept_samples(23, p, 2**63 + 1, 5, 13, "drop")
    assert 0 < int(kept.sum()) < 23
    assert torch.equal(y, torch.where(kept.view(23, *[1] * (x.dim() - 1)), x * Rate.of(p, 32).scale, 0))
    assert (y is given) == inplace


def test_parts_of_a_batch_get_the_batchs_masks():
    layer, x = DropPath(0.5), torch.randn(11, 3)
    with keyed(layer, seed=1, step=2, first_sample=100):
        whole = layer(x)
    parts = []
    for start, part in ((0, x[:4]), (4, x[4:])):
        with keyed(layer, seed=1, step=2, first_sample=100 + start):
            parts.append(layer(part))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("p", [0.005, 0.1, 0.5, 0.9])
def test_realised_rate_and_independence(p):
    n, rate = 50_021, Rate.of(p, 32)
    a, b = ((drop_path(torch.ones(n, 2), p)[:, 0] != 0).double() - rate.q for _ in range(2))
    assert abs(a.mean()) < 5 * (rate.p * rate.q / n) ** 0.5
    for one, other in ((a, b), (a[1:], a[:-1]), (a[7:], a[:-7])):
        assert abs((one * other).mean()) < 5 * rate.p * rate.q / one.numel() ** 0.5


@pytest.mark.parametrize("inplace", [False, True])
def test_infinities_in_dropped_samples_leave_no_trace(inplace):
    x = torch.ones(23, 3)
    kept = kept_samples(23, 0.5, 1, 2, 0)
    x[~kept] = torch.tensor([INF, -INF, NAN])
    x.requires_grad_()
    layer = DropPath(0.5, inplace)
    with keyed(layer, seed=1, step=2):
        y = layer(x * 1)
        y.backward(torch.where(kept[:, None], torch.ones(23, 3), NAN))
    expected = kept[:, None].expand(23, 3) * 2.0
    assert torch.equal(y, expected)
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_ends_and_eval(inplace):
    x = torch.tensor([[1.0, INF, NAN]], requires_grad=True)
    state = torch.get_rng_state()
    for layer in (DropPath(0.0, inplace), DropPath(0.5, inplace).eval(), DropPath(1.0, inplace).eval()):
        assert layer(x) is x
    assert drop_path(x, 0.5, training=False) is x
    assert drop_path(x, 0.0) is x
    for call in (DropPath(1.0, inplace), lambda x: drop_path(x, 1.0, inplace=inplace)):
        x.grad = None
        y = call(x * 1)
        y.backward(torch.full((1, 3), NAN))
        assert torch.equal(y, torch.zeros(1, 3))
        assert torch.equal(x.grad, torch.zeros(1, 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_rounded_once(dtype):
    x = torch.randn(23, 101, dtype=torch.float64).to(dtype)
    layer = DropPath(0.1)
    with keyed(layer, seed=1, step=2):
        y = layer(x)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.tensor(Rate.of(0.1, 32).scale, dtype=wide)
    kept = kept_samples(23, 0.1, 1, 2, 0)
    assert torch.equal(y, torch.where(kept[:, None], (x.to(wide) * scale).to(dtype), 0))


def test_channels_last_stays_so():
    x = torch.randn(5, 3, 7, 11)
    layer = DropPath(0.4)
    with keyed(layer, seed=1, step=1):
        a, b = layer(x), layer(x.to(memory_format=torch.channels_last))
    assert torch.equal(a, b)
    assert b.is_contiguous(memory_format=torch.channels_last)


def test_refusals():
    for p in (-0.1, 1.5, NAN, True):
        for call in (DropPath, lambda p: drop_path(torch.ones(3), p), lambda p: Residual(nn.Identity(), p)):
            with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
                call(p)
    for call in (DropPath(), drop_path, Residual(nn.Identity())):
        with pytest.raises(DropkitError, match="without dimensions"):
            call(torch.ones(()))
        with pytest.raises(TypeError, match="must be Tensor, not int"):
            call(5)
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        drop_path(torch.ones(3, dtype=torch.int64))


def test_vmap_gives_each_example_a_mask_or_all_the_same():
    x = torch.ones(7, 31, 2)
    for randomness in ("different", "same"):
        y = torch.func.vmap(DropPath(0.5), randomness=randomness)(x)
        assert torch.equal(y[:, :, 0], y[:, :, 1])
        assert (len(y[:, :, 0].unique(dim=0)) > 1) == (randomness == "different")


# Residual


class Samplewise(nn.Module):
    """Rounds every sample alike whatever the batch: elementwise and with parameters."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 1, 1))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape[0])
        return (x * self.weight).tanh()


class Masked(nn.Module):
    """What a Residual has to equal, put together by hand from the definition's mask."""

    def __init__(self, block, seed, step, first):
        super().__init__()
        self.block, self.key = block, (seed, step, first)

    def forward(self, x):
        kept = kept_samples(len(x), self.block.p, *self.key).view(-1, *[1] * (x.dim() - 1))
        beside = x if self.block.shortcut is None else self.block.shortcut(x)
        return beside + torch.where(kept, self.block.branch(x) * Rate.of(self.block.p, 32).scale, 0)


def with_gradients(model, x, *blocks):
    x = x.clone().requires_grad_()
    y = model(x)
    parameters = [parameter for block in blocks for parameter in block.parameters()]
    return [y, *torch.autograd.grad((y * torch.linspace(1, 2, y.numel()).view_as(y)).sum(), [x, *parameters])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_kept_samples_alone_give_the_same_bits(dtype, p):
    block = Residual(Samplewise(), p).to(dtype)
    x = torch.randn(23, 3, 5, 7).to(dtype)
    expected = with_gradients(Masked(block, 1, 2, 13), x, block)
    block.branch.seen.clear()
    with keyed(block, seed=1, step=2, first_sample=13):
        found = with_gradients(block, x, block)
    assert block.branch.seen == [int(kept_samples(23, p, 1, 2, 13).sum())]
    assert 1 < block.branch.seen[0] < 23
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(found[2], expected[2])  # a sum over other samples' zeros, in another order


def convolutional():
    branch = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 7, 3, 1, 1))
    return Residual(branch, 0.5, shortcut=nn.Conv2d(3, 7, 3, 2, 1))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolutional_branch_with_a_shortcut(memory_format):
    block = convolutional().to(memory_format=memory_format)
    x = torch.randn(23, 3, 8, 8).to(memory_format=memory_format)
    seen = []
    block.branch.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    expected = with_gradients(Masked(block, 1, 2, 0), x, block)
    with keyed(block, seed=1, step=2):
        found = with_gradients(block, x, block)
    assert len(seen[1]) == int(kept_samples(23, 0.5, 1, 2, 0).sum()) < 23
    assert seen[1].is_contiguous(memory_format=memory_format)
    assert found[0].is_contiguous(memory_format=memory_format)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_fresh_masks_follow_the_generator_in_both_ways():
    block, x = Residual(Samplewise(), 0.5), torch.randn(23, 3, 5, 7)
    torch.manual_seed(5)
    first, second = block(x), block(x)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.manual_seed(5)
    assert torch.equal(compiled(x), first)
    assert torch.equal(compiled(x), second)
    assert not torch.equal(first, second)


def test_one_draw_decides_however_many_are_kept():
    block, x = Residual(Samplewise(), 0.5), torch.randn(2, 3, 5, 7)
    for seed in range(11):
        torch.manual_seed(seed)
        y = block(x)
        torch.manual_seed(seed)
        assert torch.equal(y, x + drop_path(block.branch(x), 0.5))


def test_compiled_masks_the_whole_branch_in_one_compilation():
    block, x = convolutional(), torch.randn(23, 3, 8, 8)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(block, backend=counter, fullgraph=True)
    for step in range(7):
        block.p = 0.2 + 0.1 * step
        with keyed(block, seed=1, step=step, first_sample=step):
            found, eager = with_gradients(compiled, x, block), with_gradients(block, x, block)
        for ours, theirs in zip(found, eager, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert counter.frame_count == 1


@pytest.mark.parametrize("strict", [False, True])
def test_exported(strict):
    block, x = convolutional(), torch.randn(23, 3, 8, 8)
    exported = torch.export.export(block, (x,), strict=strict).module()
    torch.manual_seed(7)
    first, second = exported(x), exported(x)
    torch.manual_seed(7)
    torch.testing.assert_close(first, block(x))
    assert not torch.equal(first, second)


def test_torch_func():
    block, x = Residual(Samplewise(), 0.5), torch.randn(23, 3, 5, 7)
    with keyed(block, seed=1, step=2):
        gradient = torch.func.grad(lambda x: block(x).square().sum())(x)
        y, tangent = torch.func.jvp(block, (x,), (x,))
        eager = x.clone().requires_grad_()
        block(eager).square().sum().backward()
        assert torch.equal(y, block(x))
        torch.testing.assert_close(gradient, eager.grad)
    kept = kept_samples(23, 0.5, 1, 2, 0)
    assert torch.equal(tangent[~kept], x[~kept])
    assert not torch.isclose(tangent[kept], x[kept]).all()
    batch = torch.func.vmap(block, randomness="different")(torch.stack([x, x]))
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("under_key", [False, True])
def test_checkpointing_recomputes_the_same_samples(reentrant, under_key):
    block = nn.Sequential(Residual(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), Dropout(0.5)), 0.5), DropPath(0.5))
    x = torch.randn(23, 3, requires_grad=True)
    found = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(29)
        block.zero_grad()
        x.grad = None
        if under_key:
            with keyed(block, seed=1, step=2):
                y = run(x).square().sum()
        else:
            y = run(x).square().sum()
        torch.rand(3)  # another draw between forward and the recomputation, which comes after the block
        y.backward()
        found.append([x.grad, *(parameter.grad.clone() for parameter in block.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    assert found[0][1].any()


def test_parts_of_a_batch_have_the_batchs_masks_within_the_branch_too():
    block, x = Residual(nn.Sequential(Samplewise(), Dropout(0.5)), 0.5), torch.randn(23, 3, 5, 7)
    with keyed(block, seed=1, step=2):
        whole = block(x)
    parts = []
    for start, part in ((0, x[:11]), (11, x[11:])):
        with keyed(block, seed=1, step=2, first_sample=start):
            parts.append(block(part))
    assert torch.equal(torch.cat(parts), whole)
    block.branch[0].seen.clear()
    block(x)  # with fresh masks nothing is numbered
    assert block.branch[0].seen[0] < 23


def key_with(kept, samples, p):
    """Return a step whose mask keeps that many samples."""
    return next(step for step in range(10_000) if int(kept_samples(samples, p, 1, step, 0).sum()) == kept)


@pytest.mark.parametrize("kept", [0, 1, 2, 5])
def test_few_or_all_kept(kept):
    branch = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))  # which refuses a single sample
    block, x = Residual(branch, 0.5), torch.randn(5, 3)
    step = key_with(kept, 5, 0.5)
    mask = kept_samples(5, 0.5, 1, step, 0)
    with keyed(block, seed=1, step=step):
        y = block(x)
        y.square().sum().backward()
    assert torch.equal((y != x).any(1), mask)
    assert torch.equal(y[~mask], x[~mask])
    assert all(parameter.grad is not None for parameter in block.parameters())
    assert all(bool(parameter.grad.any()) == (kept > 0) for parameter in block.branch[1].parameters())


def test_batch_norm_sees_the_kept_samples():
    block = Residual(nn.BatchNorm1d(3, momentum=1.0), 0.5)
    x = torch.randn(23, 3)
    with keyed(block, seed=1, step=2):
        block(x)
    kept = kept_samples(23, 0.5, 1, 2, 0)
    torch.testing.assert_close(block.branch.running_mean, x[kept].mean(0))
    torch.testing.assert_close(block.branch.running_var, x[kept].var(0))


def test_the_ends_and_eval_of_a_residual():
    block, x = Residual(Samplewise(), 1.0), torch.randn(5, 3, 2, 2)
    state = torch.get_rng_state()
    y, dx, dw = with_gradients(block, x, block)
    assert torch.equal(y, x)
    assert torch.equal(dx, torch.linspace(1, 2, x.numel()).view_as(x))
    assert torch.equal(dw, torch.zeros_like(dw))
    plain = x + block.branch(x)
    assert torch.equal(block.eval()(x), plain)
    block.train().p = 0.0
    assert torch.equal(block(x), plain)
    assert torch.equal(block(x[:0]), x[:0])
    assert torch.equal(torch.get_rng_state(), state)


def test_autocast():
    block, x = convolutional(), torch.randn(23, 3, 8, 8)
    identity = Residual(nn.Conv2d(3, 3, 1), 0.5)  # x stays float32, the branch gives bfloat16
    for one in (block, identity):
        with torch.autocast("cpu", torch.bfloat16), keyed(one, seed=1, step=2):
            y, expected = one(x), Masked(one, 1, 2, 0)(x)
        assert y.dtype == expected.dtype
        torch.testing.assert_close(y, expected)


def test_expectation():
    block, x = Residual(Samplewise(), 0.4), torch.randn(1, 3, 1, 1).expand(20_011, 3, 1, 1)
    rate, branch = Rate.of(0.4, 32), block.branch(x[:1]).detach()
    error = branch.abs() * (rate.p / rate.q / len(x)) ** 0.5
    assert ((block(x).double().mean(0) - (x[:1] + branch)).abs() < 5 * error + 1e-6).all()


def test_a_copy_forgets_the_key_and_keys_of_the_state_dict_are_the_branchs():
    block, x = convolutional(), torch.randn(23, 3, 8, 8)
    with keyed(block, seed=1, step=2):
        twin = copy.deepcopy(block)
    assert not torch.equal(twin(x), twin(x))
    assert {name.split(".")[0] for name in block.state_dict()} == {"branch", "shortcut"}
    assert repr(Residual(nn.Identity(), 0.3)).startswith("Residual(\n  p=0.3\n")


# linear_rates


def test_linear_rates():
    assert linear_rates(0.5, 5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert linear_rates(0.3, 54)[-1] == 0.3  # the paper's ResNet-110 has 54 blocks
    assert linear_rates(0.3, 0) == []
    for depth in (-1, 2.0, True, "3"):
        with pytest.raises(DropkitError, match="depth"):
            linear_rates(0.5, depth)
    with pytest.raises(ValueError, match="between 0 and 1"):
        linear_rates(1.5, 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_a_branch_that_would_be_broadcast_is_refused_whatever_the_mask(training, samples):
    block = Residual(nn.Conv2d(4, 1, 1), 0.5).train(training)
    for _ in range(10):
        with pytest.raises(DropkitError, match="shortcut gives .* and the branch .*: give a shortcut that fits"):
            block(torch.ones(samples, 4, 3, 3))
