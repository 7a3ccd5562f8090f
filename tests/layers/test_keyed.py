import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dropkit.errors import DropkitError
from dropkit.layers import Dropout, Dropout2d, ReLUDropout, keyed
from dropkit.layers.keyed import _sites
from dropkit.masks import Key, Rate, cpu, keep, site_of
from dropkit.masks.kernels import library

X = torch.ones(13, 29)


def network():
    return nn.Sequential(nn.Sequential(Dropout(0.5), nn.Identity()), Dropout(0.5), nn.Flatten(), Dropout(0.3))


def masks(model, x=X, **key):
    """The masks of all dropout layers of a Sequential in one forward of ones under a key."""
    with keyed(model, **key):
        return [layer(x) != 0 for layer in model.modules() if isinstance(layer, Dropout)]


def test_the_same_key_gives_the_same_masks_in_any_order():
    a, b = network(), network()
    forward = masks(a, seed=1, step=2)
    with keyed(b, seed=1, step=2):
        torch.manual_seed(5)
        layers = [layer for layer in b.modules() if isinstance(layer, Dropout)]
        backward = [layer(X) != 0 for layer in reversed(layers)][::-1]
    assert all(torch.equal(m, n) for m, n in zip(forward, backward, strict=True))


def test_the_global_generator_is_neither_read_nor_advanced():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    masks(network(), seed=1, step=2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("other", [{"seed": 2}, {"step": 3}, {"seed": 1 + 2**32}, {"seed": 2**64 - 1}])
def test_another_seed_or_step_gives_independent_masks(other):
    key = {"seed": 1, "step": 2}
    n, q = X.numel(), 0.5
    for a, b in zip(masks(network(), **key)[:2], masks(network(), **{**key, **other})[:2], strict=True):
        covariance = ((a.double() - q) * (b.double() - q)).mean()
        assert abs(covariance) < 5 * q * (1 - q) / n**0.5


def test_sites_have_independent_masks():
    a, b, _ = masks(network(), x=torch.ones(101, 103), seed=1, step=2)
    covariance = ((a.double() - 0.5) * (b.double() - 0.5)).mean()
    assert abs(covariance) < 5 * 0.25 / a.numel() ** 0.5


def test_parts_of_the_batch_get_the_batch_s_masks():
    model = nn.Sequential(Dropout(0.5), nn.Unflatten(1, (29, 1, 1)), Dropout2d(0.5))
    x = torch.randn(13, 29)
    with keyed(model, seed=1, step=2, first_sample=3):
        whole = model(x)
    parts = []
    for start, stop in ((0, 5), (5, 6), (6, 13)):
        with keyed(model, seed=1, step=2, first_sample=3 + start):
            parts.append(model(x[start:stop]))
    assert torch.equal(torch.cat(parts), whole)


def test_wrapping_the_model_changes_nothing():
    model = network()
    plain = masks(model, seed=1, step=2)
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert all(torch.equal(a, b) for a, b in zip(plain, masks(wrapped, seed=1, step=2), strict=True))


def test_one_layer_is_one_site():
    layer = Dropout(0.5)
    with keyed(layer, seed=1, step=2):
        assert torch.equal(layer(X), layer(X))
    assert not torch.equal(layer(X), layer(X))


def test_a_layer_registered_twice_has_its_first_path():
    shared = Dropout(0.5)
    once, twice = nn.ModuleDict({"a": shared}), nn.ModuleDict({"a": shared, "b": shared})
    assert torch.equal(masks(once, seed=1, step=2)[0], masks(twice, seed=1, step=2)[0])


def test_two_layers_never_share_a_site():
    inner = nn.ModuleDict({"drop": Dropout(0.5)})
    model = nn.ModuleDict({"module": inner, "drop": Dropout(0.5)})  # without its wrapper's name `module.drop` is `drop`
    sites = [site for _, site in _sites(model)]
    assert len(set(sites)) == 2
    a, b = masks(model, seed=1, step=2)
    assert not torch.equal(a, b)


def test_blocks_nest_and_restore_also_after_an_exception():
    layer = Dropout(0.5)
    with keyed(layer, seed=1, step=2):
        outer = layer(X)
        with keyed(layer, seed=1, step=3):
            inner = layer(X)
        assert torch.equal(layer(X), outer)
        assert not torch.equal(inner, outer)
        with pytest.raises(TypeError), keyed(layer, seed=1, step=3):
            layer(None)
        assert torch.equal(layer(X), outer)
    assert layer.key is None


def test_only_the_model_s_layers_are_keyed():
    inside, outside = Dropout(0.5), Dropout(0.5)
    with keyed(inside, seed=1, step=2):
        assert not torch.equal(outside(X), outside(X))


def test_models_without_dropout_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 5))
    before = dict(vars(model[0]))
    with keyed(model, seed=1, step=2):
        assert vars(model[0]) == before


def test_torch_s_own_dropout_is_warned_of_where_the_block_begins():
    model = nn.Sequential(Dropout(0.5), nn.Dropout2d(0.5))
    with (
        pytest.warns(UserWarning, match="does not reach the torch.nn.Dropout2d at '1'.*use dropkit's layer") as found,
        keyed(model, seed=1, step=2),
    ):
        pass
    assert found[0].filename == __file__


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_computed_again_after_the_block_has_the_block_s_masks(reentrant):
    torch.manual_seed(3)
    block = nn.Sequential(nn.Linear(7, 11), Dropout(0.5), nn.Linear(11, 3), Dropout(0.3))
    found = []
    for recompute in (False, True):
        x = torch.ones(5, 7, requires_grad=True)
        with keyed(block, seed=1, step=2):
            y = checkpoint(block, x, use_reentrant=reentrant) if recompute else block(x)
        y.sum().backward()
        found.append((y.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    first, second = block(x), block(x)  # a new forward is not keyed any more
    assert not torch.equal(first, second)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_inside_the_block(reentrant):
    torch.manual_seed(3)
    block = nn.Sequential(nn.Linear(7, 11), Dropout(0.5), nn.Tanh(), nn.Linear(11, 3), Dropout(0.3))
    x = torch.randn(5, 7, requires_grad=True)
    found = []
    for recompute in (False, True):
        x.grad = None
        block.zero_grad()
        with keyed(block, seed=1, step=2):
            y = checkpoint(block, x, use_reentrant=reentrant) if recompute else block(x)
            y.square().sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in block.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all((gradient != 0).any() for gradient in found[0])


def test_gradients_outside_the_block_without_recomputation():
    layer = Dropout(0.5)
    x = torch.ones(13, 29, requires_grad=True)
    with keyed(layer, seed=1, step=2):
        y = layer(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_shared_masks_are_those_of_the_first_sample_on_every_rank():
    first, *_ = masks(network(), seed=1, step=2)
    for first_sample in (0, 13):
        shared, *_ = masks(network(), seed=1, step=2, first_sample=first_sample, rank="shared")
        assert torch.equal(shared, first)
    own, *_ = masks(network(), seed=1, step=2, first_sample=13)
    assert not torch.equal(own, first)
    with pytest.raises(DropkitError, match="unknown rank 'share'.*Did you mean 'shared'"):
        masks(network(), seed=1, step=2, rank="share")


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable", "reference"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_every_way_of_computing_a_step_gives_the_same_bits(monkeypatch, isa, memory_format, checkpointed):
    """Instruction sets, memory formats, recomputation, parts of the batch, other draws: one result and one gradient."""
    before = library.instruction_set()
    if isa == "reference":
        monkeypatch.setattr(cpu, "serves", lambda x: False)
    elif not library.use(isa):
        pytest.skip(f"this machine has no {isa}")
    try:
        model = nn.Sequential(Dropout(0.3), ReLUDropout(0.2), Dropout2d(0.4), Dropout(0.001))
        generator = torch.Generator().manual_seed(5)
        whole = torch.randn(7, 5, 3, 11, generator=generator)
        outputs, gradients = [], []
        for start, stop in ((0, 2), (2, 7)):
            x = whole[start:stop].to(memory_format=memory_format).requires_grad_()
            torch.rand(stop)
            with keyed(model, seed=2**64 - 3, step=5, first_sample=start):
                y = checkpoint(model, x, use_reentrant=False) if checkpointed else model(x)
                y.square().sum().backward()
            outputs.append(y.detach())
            gradients.append(x.grad)
    finally:
        library.use(before)
    expected = whole.clone()
    for number, layer in enumerate(model):
        rate, key = Rate.of(layer.p, layer.bits), Key(2**64 - 3, site_of(str(number)), 5)
        kept = keep(7, 5 if layer.bits else 165, rate, key)
        kept = kept.view(7, 5, 1, 1) if layer.bits else kept.view(whole.shape)
        expected = torch.where(kept, (expected.relu() if number == 1 else expected) * rate.scale, 0)
    assert torch.equal(torch.cat(outputs), expected)
    assert torch.equal(torch.cat(gradients) != 0, expected != 0)


def test_a_resumed_run_needs_seed_and_step_alone():
    long = [masks(model, seed=1, step=step) for model in (network(),) for step in range(5)]
    torch.manual_seed(99)
    resumed = masks(network(), seed=1, step=3)
    assert all(torch.equal(a, b) for a, b in zip(long[3], resumed, strict=True))
    assert not torch.equal(long[2][0], resumed[0])


@pytest.mark.parametrize(
    "wrong",
    [
        *({"seed": value} for value in (-1, 2**64, 1.5, True, "1")),
        *({"step": value} for value in (-1, 2**32, None)),
        *({"first_sample": value} for value in (-1, 0.0)),
    ],
)
def test_refuses_what_is_out_of_range(wrong):
    layer = Dropout(0.5)
    (name, value), allowed = next(iter(wrong.items())), {"seed": "2**64 - 1", "step": "2**32 - 1"}
    with pytest.raises(DropkitError) as raised, keyed(layer, **{"seed": 1, "step": 2, **wrong}):
        pass
    assert name in str(raised.value)
    assert allowed.get(name, "0 or more") in str(raised.value)
    assert str(raised.value).endswith(f"but got {value!r}")


@pytest.mark.parametrize("key", [{"seed": 2**64 - 1, "step": 2**32 - 1, "first_sample": 2**40}, {"seed": 0, "step": 0}])
def test_the_ends_of_the_ranges(key):
    a, *_ = masks(network(), **key)
    assert 0 < int(a.sum()) < a.numel()


def test_compiled_masks_are_the_eager_ones_in_one_graph():
    model = nn.Sequential(nn.Linear(7, 11), Dropout(0.5), nn.Linear(11, 3))
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    x = torch.randn(5, 7)
    for step in range(4):
        with keyed(model, seed=2**63 + 1, step=step):
            assert torch.equal(compiled(x), model(x))
    assert len(graphs) == 1
    torch.manual_seed(5)
    y = compiled(x)
    torch.manual_seed(5)
    assert torch.equal(y, model(x))
    torch._dynamo.reset()
