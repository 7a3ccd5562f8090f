import math

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropkit
from dropkit.errors import DropkitError
from dropkit.layers.blocks import DropBlock1d, DropBlock2d, DropBlock3d
from dropkit.layers.keyed import keyed
from dropkit.masks import Key, Rate, site_of
from dropkit.masks.block_rate import seed_rate
from dropkit.masks.reference import keep_blocks

# torch's own forward-mode differentiation still uses it
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")

LAYERS = {1: DropBlock1d, 2: DropBlock2d, 3: DropBlock3d}
UNITS = 1 << 24  # that a realised rate is counted over


def activation(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


# map, block, p: the table of rates that other implementations miss, and even, oversized and unequal sizes
RATES = [
    ((56, 56), 7, 0.1),
    ((14, 14), 7, 0.5),
    ((8, 8), 7, 0.1),
    ((7, 7), 7, 0.1),
    ((56, 56), 3, 0.005),
    ((14, 14), 4, 0.1),
    ((5, 5), 8, 0.3),
    ((11, 5), 7, 0.2),
    ((13, 29), (2, 5), 0.7),
    ((101,), 6, 0.1),
    ((7, 9, 11), 3, 0.25),
    ((3, 9, 11), (4, 2, 5), 0.1),
]


@pytest.mark.parametrize(("sizes", "block", "p"), RATES)
@pytest.mark.parametrize("shared", [False, True])
def test_the_realised_rate_is_p(sizes, block, p, shared):
    """Within four standard errors, those of the maps' fractions, or one percent of p where that is more."""
    torch.manual_seed(3)
    channels = 1 if shared else 17
    samples = UNITS // (channels * math.prod(sizes))
    y = LAYERS[len(sizes)](p, block, shared=shared)(torch.ones(samples, channels, *sizes, dtype=torch.bfloat16))
    fractions = (y == 0).flatten(2).sum(2).flatten() / math.prod(sizes)
    error = fractions.std() / len(fractions) ** 0.5
    assert abs(fractions.mean() - p) < max(0.01 * p, 4 * error)
    assert 4 * error < 0.05 * p  # or nothing would be shown


@pytest.mark.parametrize("axes", LAYERS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_mask_is_that_of_the_definition(axes, shared, inplace, dtype):
    sizes, block = (5, 7, 11)[:axes], (2, 4, 3)[:axes]
    layer = LAYERS[axes](0.3, block, inplace, shared)
    x = activation(3, 5, *sizes, dtype=dtype)
    with keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=13):
        y = layer(x.clone())
    rate = seed_rate(Rate.of(0.3, 32), sizes, block)
    kept = keep_blocks(3, 1 if shared else 5, sizes, block, rate, Key(2**63 + 1, site_of("drop"), 5, 13))
    assert 0 < int(kept.sum()) < kept.numel()
    for sample in range(3):
        scale = kept[sample].numel() / int(kept[sample].sum())
        assert torch.equal(y[sample], torch.where(kept[sample], x[sample] * scale, 0))


def test_each_samples_mean_is_kept_and_only_its_own():
    torch.manual_seed(5)
    y = DropBlock2d(0.4, 3)(torch.ones(13, 5, 11, 7))
    assert torch.allclose(y.mean((1, 2, 3)), torch.ones(13), atol=1e-6)
    assert len(y.flatten(1).amax(1).unique()) > 5  # the factors


def test_samples_are_independent_of_what_they_are_batched_with():
    layer, x = DropBlock2d(0.3, 3), activation(7, 5, 11, 13)
    changed = x.clone()
    changed[2] = float("nan")
    with keyed(layer, seed=1, step=1):
        whole, other = layer(x), layer(changed)
    rest = [0, 1, 3, 4, 5, 6]
    assert torch.equal(whole[rest], other[rest])
    with keyed(layer, seed=1, step=1, first_sample=3):
        assert torch.equal(layer(x[3:5]), whole[3:5])
    assert not torch.equal(whole[0] == 0, whole[1] == 0)


def test_channels_share_a_mask_or_have_their_own():
    torch.manual_seed(7)
    x = torch.ones(5, 3, 11, 13)
    together, apart = (DropBlock2d(0.3, 3, shared=shared)(x) == 0 for shared in (True, False))
    assert torch.equal(together, together[:, :1].expand_as(together))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(apart[:, 0], apart[:, 1])


def test_what_is_dropped_are_blocks():
    torch.manual_seed(11)
    dropped = DropBlock2d(0.3, (3, 5))(torch.ones(17, 7, 23, 29)) == 0
    blocks = dropped.unfold(2, 3, 1).unfold(3, 5, 1).all(-1).all(-1)  # where a whole block is gone
    again = torch.zeros_like(dropped)
    for i in range(3):
        for j in range(5):
            again[:, :, i : i + 21, j : j + 25] |= blocks
    assert dropped.any()
    assert torch.equal(again, dropped)  # nothing but them is


@pytest.mark.parametrize("axes", LAYERS)
def test_input_without_a_batch_is_one_sample(axes):
    layer, x = LAYERS[axes](0.3, 2), activation(5, *(7, 3, 11)[:axes])
    with keyed(layer, seed=1, step=1):
        y = layer(x)
        assert torch.equal(y, layer(x[None])[0])
    assert (y == 0).any()


def test_channels_last_stays_and_changes_nothing():
    layer, x = DropBlock2d(0.3, 3), activation(3, 5, 7, 11)
    with keyed(layer, seed=1, step=1):
        y = layer(x.to(memory_format=torch.channels_last))
        assert torch.equal(y, layer(x))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_eval_and_the_two_ends(p, inplace):
    x = torch.full((2, 3, 5, 7), float("inf"), requires_grad=True)
    layer = DropBlock2d(p, 3, inplace)
    assert layer.eval()(x) is x
    layer.train()
    if p == 0:
        assert layer(x) is x
    if p == 1:
        y = layer(x * 1)
        y.sum().backward()
        assert torch.equal(y, torch.zeros_like(y))
        assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("inplace", [False, True])
def test_gradient_passes_exactly_where_kept(inplace):
    torch.manual_seed(13)
    x = torch.ones(5, 3, 7, 11, requires_grad=True)
    y = DropBlock2d(0.3, 3, inplace)(x + 0)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert 0 < int((x.grad == 0).sum()) < x.numel()


def test_a_sample_of_which_nothing_is_kept_is_zero_with_gradient_zero():
    torch.manual_seed(17)
    x = torch.full((31, 2, 3, 5), float("inf"), requires_grad=True)
    y = DropBlock2d(0.6, 7)(x)
    y.backward(torch.full_like(y, 3))
    gone = (y == 0).flatten(1).all(1)
    assert 0 < int(gone.sum()) < 31
    assert torch.equal((x.grad == 0).flatten(1).all(1), gone)
    assert not y.isnan().any()
    assert x.grad.isfinite().all()


def test_derivatives():
    layer = DropBlock2d(0.3, 2)
    x = activation(2, 2, 3, 5, dtype=torch.float64).requires_grad_()
    with keyed(layer, seed=1, step=1):
        checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
        assert torch.autograd.gradcheck(layer, x, **checks)
        assert torch.autograd.gradgradcheck(lambda x: layer(x) ** 2, x, check_fwd_over_rev=True)


def test_opcheck():
    words = torch.tensor([5, 3, 5, 2]), torch.tensor([1 << 29, 32])
    x = activation(2, 3, 5, 7).requires_grad_()
    for given in (x, x.to(memory_format=torch.channels_last).detach().requires_grad_()):
        torch.library.opcheck(torch.ops.dropkit.drop_blocks.default, (given, *words, [2, 3], False))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.dropkit.block_rate.default, (words[1], [5, 7], [2, 3]), test_utils=tests)


def test_in_place_writes_into_the_input_and_counts_as_a_change():
    layer, x = DropBlock2d(0.3, 3, inplace=True), activation(2, 3, 7, 11)
    version = x._version
    assert layer(x) is x
    assert x._version > version
    with pytest.raises(RuntimeError, match="leaf Variable"):
        layer(x.requires_grad_())
    x = activation(2, 3, 7, 11)
    layer(x[0])  # a view without a batch
    assert (x[0] == 0).any()
    assert not (x[1] == 0).any()


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap(randomness):
    torch.manual_seed(19)
    y = torch.vmap(DropBlock2d(0.3, 3), randomness=randomness)(torch.ones(2, 3, 5, 7, 11))
    assert torch.equal(y[0], y[1]) == (randomness == "same")
    assert (y == 0).any()


def test_manual_seed_and_checkpointing_govern_the_mask():
    layer, x = DropBlock2d(0.3, 3), activation(2, 3, 7, 11).requires_grad_()
    found = []
    for call in (layer, layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        torch.manual_seed(23)
        y = call(x)
        torch.rand(3)  # between forward and recomputation
        found.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert not torch.equal(layer(x), found[0][0])


def test_compiled_equals_eager_in_one_compilation_while_p_changes():
    torch._dynamo.reset()
    model = nn.Sequential(nn.Conv2d(3, 5, 3), DropBlock2d(0.1, 3), nn.Conv2d(5, 2, 3), DropBlock2d(0.1, 4, shared=True))
    x = activation(2, 3, 11, 13)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(7):
        model[1].p, model[3].p = 0.1 + 0.1 * step, 0.3 - 0.02 * step
        found = []
        for call in (compiled, model):
            torch.manual_seed(step)
            y = call(x)
            found.append((y, *torch.autograd.grad(y.square().sum(), model.parameters())))
        for ours, eager in zip(*found, strict=True):
            assert torch.equal(ours, eager)
    assert counter.frame_count == 1


@pytest.mark.parametrize("inplace", [False, True])
def test_inductor_equals_eager(inplace):
    torch._dynamo.reset()
    layer = DropBlock2d(0.3, 3, inplace)
    network = lambda x: layer(x * 2).square()
    found = []
    for call in (torch.compile(network, fullgraph=True), network):
        x = activation(2, 3, 11, 13).requires_grad_()
        torch.manual_seed(37)
        y = call(x)
        found.append((y, *torch.autograd.grad(y.sum(), x)))
    for ours, eager in zip(*found, strict=True):
        assert torch.equal(ours, eager)
        assert (ours == 0).any()


def test_compiled_for_any_size_of_map():
    torch._dynamo.reset()
    layer = DropBlock2d(0.2, 7)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True, dynamic=True)
    for sizes in ((11, 13), (17, 19), (5, 23)):
        with keyed(layer, seed=1, step=1):
            x = activation(3, 5, *sizes)
            assert torch.equal(compiled(x), layer(x))
    assert counter.frame_count == 1


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    x = activation(2, 3, 7, 11)
    layer = DropBlock2d(0.3, 3)
    program = torch.export.export(layer, (x,), strict=strict)
    torch.manual_seed(29)
    y = program.module()(x)
    torch.manual_seed(29)
    assert torch.equal(y, layer(x))


def test_empty():
    for shape in ((0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7)):
        x = torch.empty(shape)
        assert DropBlock2d(0.5)(x) is x


def test_attributes_are_checked_and_can_change():
    layer = DropBlock2d()
    assert (layer.p, layer.block_size) == (0.1, 7)
    layer.block_size = (2, 3)
    assert repr(layer) == "DropBlock2d(p=0.1, block_size=(2, 3), inplace=False, shared=False)"
    torch.manual_seed(31)
    assert (layer(torch.ones(5, 7, 2, 3)) == 0).flatten(2).float().std(2).max() == 0  # whole maps now
    with pytest.raises(ValueError, match="between 0 and 1, but got 7"):
        layer.p = 7
    for wrong in (0, -3, 2.0, True, (3,), (3, 0), (3, 3, 3)):
        with pytest.raises(DropkitError, match="block_size of DropBlock2d is an integer of 1 or more, or a tuple of 2"):
            DropBlock2d(0.1, wrong)
    with pytest.raises(DropkitError, match="DropBlock1d is an integer of 1 or more, but got 0"):
        DropBlock1d(0.1, 0)


@pytest.mark.parametrize("axes", LAYERS)
def test_other_ranks_and_types_are_refused(axes):
    layer = LAYERS[axes]()
    for rank in {0, 1, 2, 3, 4, 5, 6} - {axes + 1, axes + 2}:
        for training in (True, False):
            with pytest.raises(DropkitError, match=rf"DropBlock{axes}d takes \(N, C, .*\) or \(C, .*, but got"):
                layer.train(training)(torch.ones((2,) * rank))
    layer.train()
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        layer([1.0])
    with pytest.raises(RuntimeError, match="result type Float can't be cast"):
        layer(torch.ones((2,) * (axes + 2), dtype=torch.int64))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_the_functional_forms_are_the_layers(axes, shared):
    function = getattr(dropkit.functional, f"drop_block{axes}d")
    layer = getattr(dropkit, f"DropBlock{axes}d")(0.3, 2, shared=shared)
    x = torch.randn(3, 5, *(7, 4, 6)[:axes])
    for given in (x, x[0]):
        torch.manual_seed(5)
        expected = layer(given)
        torch.manual_seed(5)
        assert torch.equal(function(given, 0.3, 2, shared=shared), expected)
        torch.manual_seed(5)
        written = given.clone()
        assert function(written, 0.3, 2, inplace=True, shared=shared) is written
        assert torch.equal(written, expected)
    assert function(x, 0.3, 2, training=False) is x
    assert function(x, 0.0, 2) is x
    assert torch.equal(function(x, 1.0, 2), torch.zeros_like(x))
    with pytest.raises(dropkit.DropkitError, match=f"block_size of drop_block{axes}d is an integer of 1 or more"):
        function(x, 0.3, 0)
    with pytest.raises(dropkit.DropkitError, match=f"drop_block{axes}d takes "):
        function(torch.ones(3), 0.3, 2)
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 1.5"):
        function(x, 1.5, 2)


@pytest.mark.parametrize("size", [[3, 2], torch.tensor([3, 2]).tolist(), (torch.tensor(3), 2)])
def test_a_block_size_may_be_any_integers(size):
    layer = DropBlock2d(0.1, size)
    assert layer(torch.ones(2, 3, 9, 9)).shape == (2, 3, 9, 9)


@pytest.mark.parametrize("size", [(), (3,), (3, 0), (3, 2.0), (True, 2), "33", None, -1])
def test_what_is_no_block_size(size):
    with pytest.raises(DropkitError, match="block_size of DropBlock2d is an integer of 1 or more, or a tuple of 2"):
        DropBlock2d(0.1, size)


def test_the_mean_of_a_unit_depends_on_its_place_as_the_page_says():
    """docs/layers/dropblock.md: 1.4 in a corner and .41 in the centre of a 14 x 14 map; 5 standard errors."""
    torch.manual_seed(0)
    y = DropBlock2d(0.3, 7)(torch.ones(3000, 8, 14, 14))
    for unit, expected in (((0, 0), 1.4), ((7, 7), 0.41)):
        values = y[(..., *unit)].flatten()
        assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / len(values) ** 0.5 + 0.01
