"""What every dropkit layer promises, whatever it drops: one table of layers, and each promise once.

A new layer takes a line in LAYERS. A promise that it cannot keep is exempted there, with the reason.
"""

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dropkit.layers import DropLayer, Dropout, Dropout1d, Dropout2d, Dropout3d, ReLUDropout, keyed
from dropkit.layers.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.layers.blocks import DropBlock1d, DropBlock2d, DropBlock3d
from dropkit.layers.gaussian import GaussianDropout
from dropkit.layers.learned import ConcreteDropout, ConcreteDropout2d
from dropkit.layers.paths import DropPath, Residual
from dropkit.layers.weights import DropConnect

P = 0.4  # of every layer that the table makes


@dataclass(frozen=True)
class Case:
    """A layer and the shape (N, C, ...) of its input.

    make: make the layer with a drop probability of P; seeded, so that parameters are the same each time.
    whole: what the layer computes where nothing is dropped, from the layer and its input.
    exempt: {name of a test: why it cannot hold}.
    rounding: how far two results may differ, relatively or absolutely, that are computed in another order.
    """

    make: Callable[[], DropLayer]
    shape: tuple[int, ...]
    whole: Callable[[DropLayer, Tensor], Tensor] = lambda layer, x: x
    exempt: dict[str, str] = field(default_factory=dict)
    rounding: float = 0.0

    def layer(self) -> DropLayer:
        torch.manual_seed(101)
        return self.make()

    def input(self) -> Tensor:
        """Positive numbers: where a ReLU comes first, too, a gradient of zero means dropped."""
        return torch.rand(self.shape, generator=torch.Generator().manual_seed(3)) + 0.5

    def same(self, a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and torch.allclose(a, b, rtol=self.rounding, atol=self.rounding)

    def equal(self, found: list[Tensor], expected: list[Tensor]) -> bool:
        return all(self.same(a, b) for a, b in zip(found, expected, strict=True))


SUMS = 1e-4  # a convolution may take the products of its many sums in another order
# A vector and what is left over of a row of them need not round a logistic function alike.
LOGISTIC = 1e-6

NO_PLACE = {"test_in_place_is_the_same_in_the_input": "it has no form that writes into the input"}
CONVOLUTION = {
    "test_nothing_leaks_from_a_dropped_place": "a dropped weight is no place of the input",
    "test_half_types_are_computed_wide_and_rounded_once": "the convolution is computed in the given type",
    "test_autocast_leaves_the_type": "autocast computes a convolution in the lower type",
}
LEARNED = {
    "test_nothing_leaks_from_a_dropped_place": "a relaxed mask multiplies and drops no unit entirely",
    "test_nothing_is_dropped": "its rate cannot be 0, whose logit is infinite",
    "test_p_is_checked_whenever_it_is_set": "its rate is kept as a logit and read back to rounding",
    "test_half_types_are_computed_wide_and_rounded_once": "its rate is a parameter, which takes the given type, too",
}
LAYERS = {
    "Dropout": Case(lambda: Dropout(P), (5, 7, 3)),
    "Dropout1d": Case(lambda: Dropout1d(P), (5, 7, 3)),
    "Dropout2d": Case(lambda: Dropout2d(P), (5, 7, 3, 2)),
    "Dropout3d": Case(lambda: Dropout3d(P), (5, 7, 3, 2, 2)),
    "ReLUDropout": Case(lambda: ReLUDropout(P), (5, 7, 3, 2), whole=lambda layer, x: x.relu()),
    "AlphaDropout": Case(lambda: AlphaDropout(P), (5, 7, 3, 2)),
    "FeatureAlphaDropout": Case(lambda: FeatureAlphaDropout(P), (5, 7, 3, 2)),
    "GaussianDropout": Case(
        lambda: GaussianDropout(P),
        (5, 7, 3, 2),
        exempt={"test_nothing_leaks_from_a_dropped_place": "it multiplies by noise and drops no unit"},
    ),
    "DropBlock1d": Case(lambda: DropBlock1d(P, 2), (5, 7, 11)),
    "DropBlock2d": Case(lambda: DropBlock2d(P, 2), (5, 3, 5, 7)),
    "DropBlock3d": Case(lambda: DropBlock3d(P, 2), (5, 3, 3, 5, 4)),
    "DropPath": Case(lambda: DropPath(P), (5, 7, 3, 2)),
    "Residual": Case(
        lambda: Residual(nn.Tanh(), P),
        (5, 7, 3, 2),
        whole=lambda layer, x: x + x.tanh(),
        exempt=NO_PLACE
        | {
            "test_nothing_leaks_from_a_dropped_place": "no gradient is zero: the way beside the branch is always open",
            "test_half_types_are_computed_wide_and_rounded_once": "branch and sum are computed in the given type",
        },
    ),
    "DropConnect": Case(
        lambda: DropConnect(nn.Conv2d(7, 7, 3, padding=1), P, per_sample=True),
        (5, 7, 5, 6),
        whole=lambda layer, x: nn.functional.conv2d(x, layer.weight, layer.bias, padding=1),
        exempt=NO_PLACE
        | CONVOLUTION
        | {"test_channels_last_stays_and_gets_the_same_masks": "a grouped convolution has its own memory format"},
        rounding=SUMS,
    ),
    "DropConnect, one mask for the batch": Case(
        lambda: DropConnect(nn.Conv2d(7, 7, 3, padding=1), P),
        (5, 7, 5, 6),
        whole=lambda layer, x: nn.functional.conv2d(x, layer.weight, layer.bias, padding=1),
        exempt=NO_PLACE
        | CONVOLUTION
        | {"test_a_key_fixes_the_mask": "the mask of the weights does not depend on the first sample, by intention"},
        rounding=SUMS,
    ),
    "ConcreteDropout": Case(lambda: ConcreteDropout(P), (5, 7, 3, 2), exempt=NO_PLACE | LEARNED, rounding=LOGISTIC),
    "ConcreteDropout2d": Case(lambda: ConcreteDropout2d(P), (5, 7, 3, 2), exempt=NO_PLACE | LEARNED, rounding=LOGISTIC),
}
KEY = {"seed": 2**63 + 1, "step": 5}

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")


@pytest.fixture(params=LAYERS)
def case(request) -> Case:
    found = LAYERS[request.param]
    if request.node.originalname in found.exempt:
        pytest.skip(found.exempt[request.node.originalname])
    torch._dynamo.reset()
    torch.manual_seed(0)
    return found


def outcome(model: nn.Module, x: Tensor, call=None, power: int = 2) -> list[Tensor]:
    """The output of the model, or of another way to call it, and the gradients of the input and the parameters."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    model.zero_grad()
    y = model(leaf) if call is None else call(leaf)
    torch.rand(3)  # another draw between forward and backward
    y.pow(power).sum().backward()
    return [y.detach(), leaf.grad, *(parameter.grad for parameter in model.parameters())]


def test_exemptions_name_a_test_and_a_reason():
    for case in LAYERS.values():
        for name, reason in case.exempt.items():
            assert callable(globals()[name])
            assert len(reason.split()) > 3


# Keyed masks


def test_a_key_fixes_the_mask(case):
    layer, x = case.layer(), case.input()

    def under(**changes) -> Tensor:
        with keyed(layer, **{**KEY, **changes}):
            return layer(x)

    first = under()
    torch.manual_seed(7)
    assert torch.equal(under(), first)
    for changes in ({"seed": 2}, {"step": 6}, {"first_sample": len(x)}):
        assert not torch.equal(under(**changes), first)
    sites = nn.ModuleDict({"a": layer, "b": copy.deepcopy(layer)})
    with keyed(sites, **KEY):
        assert not torch.equal(sites["a"](x), sites["b"](x))


def test_parts_of_the_batch_get_the_batch_s_masks(case):
    layer, x = case.layer(), case.input()
    parts = []
    for start, stop in ((0, 2), (2, 3), (3, 5)):
        with keyed(layer, **KEY, first_sample=11 + start):
            parts.append(layer(x[start:stop]))
    with keyed(layer, **KEY, first_sample=11):
        assert case.same(torch.cat(parts), layer(x))


def test_the_global_generator_is_left_alone_under_a_key(case):
    layer, x = case.layer(), case.input().requires_grad_()
    state = torch.get_rng_state()
    with keyed(layer, **KEY):
        layer(x).sum().backward()
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_key_the_generator_governs_the_mask(case):
    layer, x = case.layer(), case.input()
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


# Compiled, exported, checkpointed, transformed


def test_compiled_equals_eager_in_one_compilation(case):
    layer, x = case.layer(), case.input()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for step, p in enumerate((0.1, 0.7, 0.005, 0.5, 0.25)):
        layer.p = p
        with keyed(layer, seed=1, step=step):
            assert case.equal(outcome(layer, x, compiled), outcome(layer, x))
    assert counter.frame_count == 1


def test_compiled_layers_draw_in_their_order(case):
    """Without a dependence between their draws a compiler swaps them, and with them the layers' masks."""
    model = nn.Sequential(case.layer(), nn.Sigmoid(), case.layer())
    model[2].p = P / 2
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = []
    for call in (compiled, model):
        torch.manual_seed(11)
        found.append(outcome(model, case.input(), call))
    assert case.equal(*found)


def test_export_in_training(case):
    layer, x = case.layer(), case.input()
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.manual_seed(7)
    first, second = exported(x), exported(x)
    torch.manual_seed(7)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("under_key", [False, True])
def test_checkpointing_changes_nothing(case, reentrant, under_key):
    block = nn.Sequential(nn.Tanh(), case.layer(), nn.Tanh())
    found = []
    for call in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(11)
        with keyed(block, **KEY) if under_key else nullcontext():
            found.append(outcome(block, case.input(), call))
    assert case.equal(*found)


def test_randomness_of_vmap(case):
    layer, x = case.layer(), case.input().expand(3, *case.shape)
    different = torch.func.vmap(layer, randomness="different")(x)
    assert len({tuple(example.flatten().tolist()) for example in different}) == 3
    alike = torch.func.vmap(layer, randomness="same")(x)
    torch.testing.assert_close(alike, alike[:1].expand_as(alike))  # a sigmoid's rounding depends on the place in memory
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        torch.func.vmap(layer)(x)


def test_under_vmap_an_example_has_the_key_s_mask(case):
    layer, x = case.layer(), case.input()
    with keyed(layer, **KEY):
        batched = torch.func.vmap(layer)(torch.stack([x, x + 1]))
        assert torch.equal(batched, torch.stack([layer(x), layer(x + 1)]))


def test_gradcheck(case):
    """Also forward mode and the second derivative."""
    layer, x = case.layer().double(), case.input().double()[:1].requires_grad_()
    with keyed(layer, **KEY):
        assert torch.autograd.gradcheck(layer, (x,), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


# Number types and memory


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_wide_and_rounded_once(case, dtype):
    layer, x = case.layer().to(dtype), case.input().to(dtype)
    with keyed(layer, **KEY):
        found = outcome(layer, x, power=1)
        expected = outcome(layer.float(), x.float(), power=1)
    assert all(tensor.dtype == dtype for tensor in found)
    assert case.equal(found, [tensor.to(dtype) for tensor in expected])


def test_autocast_leaves_the_type(case):
    layer, x = case.layer(), case.input()
    with keyed(layer, **KEY):
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(layer(x), expected)


def test_channels_last_stays_and_gets_the_same_masks(case):
    layer, x = case.layer(), case.input()
    last = x.movedim(1, -1).contiguous().movedim(-1, 1)  # for 4 dimensions torch.channels_last
    assert last.stride() != x.stride()
    with keyed(layer, **KEY):
        found, expected = outcome(layer, last), outcome(layer, x)
    assert case.equal(found, expected)
    assert all(tensor.movedim(1, -1).is_contiguous() for tensor in found[:2])
    assert all(tensor.is_contiguous() for tensor in expected[:2])


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_nothing_leaks_from_a_dropped_place(case, value):
    layer, x = case.layer(), case.input()
    with keyed(layer, **KEY):
        expected = outcome(layer, x)
        dropped = expected[1] == 0
        assert 0 < int(dropped.sum()) < dropped.numel()
        assert case.equal(outcome(layer, x.masked_fill(dropped, value)), expected)


def test_in_place_is_the_same_in_the_input(case):
    layer, x = case.layer(), case.input()
    given, written = [], []

    def in_place(leaf: Tensor) -> Tensor:
        given.append(leaf * 1)
        written.append(layer(given[0]))
        return written[0]

    with keyed(layer, **KEY):
        expected = outcome(layer, x)
        layer.inplace = True
        assert case.equal(outcome(layer, x, in_place), expected)
        assert written[0] is given[0]
        plain = x.clone()
        assert layer(plain) is plain
        assert torch.equal(plain, expected[0])
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"):
            layer(x.clone().requires_grad_())


# Where nothing is dropped


@pytest.mark.parametrize("at", ["p = 0", "eval"])
def test_nothing_is_dropped(case, at):
    layer, x = case.layer(), case.input()
    if at == "eval":
        layer.eval()
    else:
        layer.p = 0
    state = torch.get_rng_state()
    for signed in (x, -x):
        found, expected = layer(signed), case.whole(layer, signed)
        assert (found is signed) == (expected is signed)
        assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)


# The module


def test_repr(case):
    layer = case.layer()
    assert repr(layer).startswith(f"{type(layer).__name__}(")
    assert f"p={P}" in repr(layer)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, True, float("nan")])
def test_p_is_checked_whenever_it_is_set(case, wrong):
    layer = case.layer()
    with pytest.raises(ValueError, match=f"dropout probability has to be between 0 and 1, but got {wrong}"):
        layer.p = wrong
    assert layer.p == P


def test_p_acts_from_when_it_is_set(case):
    layer, x = case.layer(), case.input()
    with keyed(layer, **KEY):
        first = layer(x)
        layer.p = 0.9
        assert not torch.equal(layer(x), first)
        layer.p = P
        assert torch.equal(layer(x), first)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(case, copied):
    layer, x = case.layer(), case.input()
    with keyed(layer, **KEY):
        twin, expected = copied(layer), layer(x)
        assert twin.key is None
        assert not torch.equal(twin(x), expected)
    assert (twin.p, twin.training, repr(twin)) == (layer.p, layer.training, repr(layer))
    with keyed(twin, **KEY):
        assert torch.equal(twin(x), expected)
    assert not copied(layer.eval()).training


def test_a_checkpoint_holds_parameters_alone(case):
    layer = case.layer()
    with keyed(layer, **KEY):
        assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}
