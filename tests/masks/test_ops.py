"""The operators under everything that torch does with operators: autograd, torch.func, tracing, layouts, dtypes."""

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from dropkit.masks import Key, Rate, cpu, fresh_key, keep, key_words, ops, rate_words
from dropkit.masks.reference import random16

# torch's own forward-mode differentiation still uses it
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")

RATE, KEY = Rate.of(0.3), Key(2**63 + 7, 3, 5, 2)
K, R, DEVIATION = key_words(KEY.seed, 3, 5, 2), rate_words(RATE), torch.tensor([0.7], dtype=torch.float64)

OPERATORS = {
    "drop": (torch.ops.dropkit.drop.default, (K, R)),
    "drop, not scaled": (torch.ops.dropkit.drop.default, (K, R, False)),
    "drop_channels": (torch.ops.dropkit.drop_channels.default, (K, R)),
    "relu_drop": (torch.ops.dropkit.relu_drop.default, (K, R)),
    "gaussian": (torch.ops.dropkit.gaussian.default, (K, DEVIATION)),
    "where_positive": (torch.ops.dropkit.where_positive.default, (torch.linspace(-1, 1, 70).double().view(5, 7, 2), R)),
}
each_operator = pytest.mark.parametrize("name", OPERATORS)


def function(name):
    operator, rest = OPERATORS[name]
    return lambda x: operator(x, *rest)


def activation(*shape, dtype=torch.float64):
    return torch.randn(shape or (5, 7, 2), dtype=dtype, generator=torch.Generator().manual_seed(3))


def curved(name):
    return lambda x: function(name)(x).sin().sum()


@each_operator
def test_opcheck(name):
    operator, rest = OPERATORS[name]
    for x in (activation(), activation().transpose(0, 2).contiguous().transpose(0, 2)):
        torch.library.opcheck(operator, (x.requires_grad_(), *rest))


def test_opcheck_of_draw():
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.dropkit.draw.default, (K, activation()), test_utils=tests)


@each_operator
def test_derivatives_of_first_and_second_order(name):
    x = activation().requires_grad_()
    checks = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function(name), x, **checks)
    assert torch.autograd.gradgradcheck(lambda x: function(name)(x) ** 2, x, check_fwd_over_rev=True)


@pytest.mark.parametrize("name", ["drop", "drop_channels", "relu_drop", "gaussian"])
def test_the_functions_are_the_operators_without_the_dispatcher(name):
    """Value, gradient, second gradient, forward mode: eager calls go past the dispatcher and must not differ."""
    (operator, rest), call = OPERATORS[name], getattr(ops, name)
    found = []
    for f in (operator, call):
        x = activation().requires_grad_()
        y = f(x, *rest)
        (gradient,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((gradient**2).sum(), x)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
            tangent = torch.autograd.forward_ad.unpack_dual(f(dual, *rest)).tangent
        batched = vmap(f, (0, *[None] * len(rest)))(x, *rest)
        found.append((y, gradient, second, tangent, f(x.detach(), *rest), batched))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
        assert (ours != 0).any()
    assert torch.autograd.gradcheck(lambda x: call(x, *rest), activation().requires_grad_(), check_batched_grad=True)
    assert found[1][4].grad_fn is None


@each_operator
def test_torch_func_agrees_with_autograd(name):
    x, f = activation(), curved(name)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf), leaf)
    assert gradient.abs().sum() > 1
    assert torch.equal(grad(f)(x), gradient)
    assert torch.allclose(jvp(f, (x,), (x,))[1], (gradient * x).sum())
    assert torch.equal(jacrev(function(name))(x), jacfwd(function(name))(x))
    assert torch.allclose(hessian(f)(x).sum((3, 4, 5)), grad(lambda x: grad(f)(x).sum())(x))
    several = torch.stack([x, -x, 2 * x])
    expected = torch.stack([grad(f)(x) for x in several])
    assert torch.equal(vmap(grad(f))(several), expected)
    assert torch.equal(grad(lambda x: vmap(f)(x).sum())(several), expected)


@each_operator
def test_compiled_torch_func_agrees(name):
    torch._dynamo.reset()
    x, f = activation(), curved(name)

    def everything(x):
        return grad(f)(x), vmap(grad(f))(torch.stack([x, -x])), jvp(f, (x,), (x,))[1]

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    for ours, eager in zip(compiled(x), everything(x), strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("batched", ["key", "activation", "both", "rate"])
def test_vmap_gives_each_example_the_mask_it_has_alone(batched):
    keys = torch.stack([key_words(seed, 3, 5, 2) for seed in (1, 2, 3)])
    rates = torch.stack([rate_words(Rate.of(p)) for p in (0.2, 0.001, 1.0)])
    x = activation(3, 5, 7, dtype=torch.float32)
    for operator in (ops.drop, ops.drop_channels, ops.relu_drop):
        in_dims, args = {
            "key": ((None, 0, None), (x[0], keys, R)),
            "activation": ((2, None, None), (x.movedim(0, 2), K, R)),
            "both": ((1, 0, None), (x.movedim(0, 1), keys, R)),
            "rate": ((None, None, 0), (x[0], K, rates)),
        }[batched]
        y = vmap(operator, in_dims)(*args)
        for i in range(3):
            alone = [a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims, strict=True)]
            assert torch.equal(y[i], operator(*alone))


def test_randomness_of_vmap():
    x = torch.ones(4, 31)

    def thinned(x):
        return ops.drop(x, fresh_key(x), R)

    torch.manual_seed(5)
    different = vmap(thinned, randomness="different")(x)
    assert len({tuple(row.tolist()) for row in different}) == 4
    same = vmap(thinned, randomness="same")(x)
    assert torch.equal(same, same[:1].expand_as(same))
    assert not torch.equal(same[0], vmap(thinned, randomness="same")(x)[0])
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        vmap(thinned)(x)
    nested = vmap(vmap(thinned, randomness="different"), randomness="different")(x.expand(3, 4, 31))
    assert len({tuple(row.tolist()) for row in nested.flatten(0, 1)}) == 12
    gradients = vmap(grad(lambda x: thinned(x).sum()), randomness="different")(x)
    assert len({tuple(row.tolist()) for row in gradients}) == 4


LAYOUTS = [
    lambda x: x,
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: x.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2),
    lambda x: torch.cat([x, x], 3)[..., ::2],
    lambda x: x[:, :1].expand(x.shape),
]


@pytest.mark.parametrize("laid_out", LAYOUTS)
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "where_positive"])
def test_strides_are_kept_and_nothing_is_shared(name, laid_out):
    x = laid_out(activation(3, 5, 7, 11, dtype=torch.float32)).requires_grad_()
    operator, rest = OPERATORS[name]
    for words in ((K, R), (K, rate_words(Rate.of(0))), (K, rate_words(Rate.of(1)))):
        given = (words[0], DEVIATION) if name == "gaussian" else (*words, *rest[2:])
        y = operator(x, *given)
        assert y.stride() == torch.empty_like(x).stride()
        assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        with torch._subclasses.FakeTensorMode() as mode:
            fake = operator(mode.from_tensor(x), *map(mode.from_tensor, given[:2]), *given[2:])
        assert (fake.stride(), fake.shape, fake.dtype) == (y.stride(), y.shape, y.dtype)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_dtypes(dtype):
    x = activation(5, 7).to(dtype)
    kept = keep(5, 7, RATE, KEY)
    for scaled, factor in ((True, RATE.scale), (False, 1.0)):
        assert torch.equal(ops.drop(x, K, R, scaled), torch.where(kept, x * factor, 0))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ops.drop(leaf, K, R), leaf, x)
    assert torch.equal(gradient, ops.drop(x, K, R))


@pytest.mark.parametrize("special", ["conjugate", "negative"])
def test_lazy_views_are_read_as_their_values(special):
    x = torch.view_as_complex(activation(5, 7, 2)).conj()
    x = x if special == "conjugate" else x.imag
    assert torch.equal(ops.drop(x, K, R), ops.drop(x.resolve_conj().resolve_neg().clone(), K, R))


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("name", ["drop", "drop_channels", "relu_drop"])
def test_the_ends_are_exact_in_value_and_gradient(name, p):
    special = torch.tensor([[1.0, -2.0, 0.1, float("inf"), float("nan")]])
    x = special.clone().requires_grad_()
    y = getattr(ops, name)(x, K, rate_words(Rate.of(p)))
    y.backward(torch.tensor([[3.0, 5.0, 7.0, float("inf"), float("nan")]]))
    expected = special.relu() if name == "relu_drop" else special
    passed = torch.tensor([[3.0, 0.0 if name == "relu_drop" else 5.0, 7.0, float("inf"), float("nan")]])
    if p == 1:
        expected, passed = torch.zeros(1, 5), torch.zeros(1, 5)
    assert torch.equal(y.nan_to_num(nan=-7), expected.nan_to_num(nan=-7))
    assert torch.equal(x.grad.nan_to_num(nan=-7), passed.nan_to_num(nan=-7))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 5)])
@each_operator
def test_empty(name, shape):
    operator, rest = OPERATORS[name]
    if name == "where_positive":
        rest = (torch.empty(shape), R)
    if name == "drop_channels" and len(shape) < 2:
        return
    x = torch.empty(shape, requires_grad=True)
    y = operator(x, *rest)
    assert y.shape == shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == shape


@pytest.mark.parametrize(
    ("name", "saved"),
    [("drop", [[4], [2]]), ("drop_channels", [[4], [2]]), ("gaussian", [[4], [1]]), ("relu_drop", [[5, 7, 2], [2]])],
)
def test_nothing_but_the_key_is_saved_for_backward(name, saved):
    found = []

    def pack(tensor):
        found.append(list(tensor.shape))
        return tensor

    operator, rest = OPERATORS[name]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for f in (operator, getattr(ops, name)):
            f(activation().requires_grad_(), *rest)
    # In eager mode the rate is no tensor to save when the output tells the mask.
    assert found == saved + (saved[:1] if name == "relu_drop" else saved)


@pytest.mark.parametrize("name", ["drop", "drop_channels", "gaussian"])
def test_no_tensor_is_saved_where_nobody_watches(name):
    _, rest = OPERATORS[name]
    assert getattr(ops, name)(activation().requires_grad_(), *rest).grad_fn.saved_tensors == ()


@pytest.mark.parametrize("name", ["drop", "drop_channels", "gaussian", "relu_drop"])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_key_that_is_missing_is_the_one_that_fresh_key_draws(name, gradient):
    _, (_, words) = OPERATORS[name]
    x = activation().requires_grad_(gradient)
    results = []
    for key in (lambda: None, lambda: fresh_key(x)):
        torch.manual_seed(8)
        y = getattr(ops, name)(x, key(), words)
        results.append([y.detach(), torch.rand(1), *(torch.autograd.grad(y.sum(), x) if gradient else ())])
    assert all(map(torch.equal, *results))


def test_the_gradient_of_relu_drop_has_the_output_s_places_and_the_mask_of_drop():
    x = activation().requires_grad_()
    y = ops.relu_drop(x, K, R)
    assert torch.equal(y, ops.drop(x.relu(), K, R))
    dy = activation()
    (fused,) = torch.autograd.grad(y, x, dy)
    (pair,) = torch.autograd.grad(ops.drop(x.relu(), K, R), x, dy)
    assert torch.equal(fused, pair)


def test_gaussian_noise_has_its_mean_and_deviation():
    n = 400_009
    y = ops.gaussian(torch.ones(n, 1), K, DEVIATION)
    assert abs(y.double().mean() - 1) < 5 * 0.7 / n**0.5
    assert abs(y.double().var() - 0.49) < 5 * 0.49 * (2 / n) ** 0.5


@pytest.mark.parametrize("laid_out", LAYOUTS)
@pytest.mark.parametrize("kernels", [True, False])
def test_logistic_noise_is_the_logit_of_each_unit_s_random_bits(laid_out, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(cpu, "serves", lambda x: False)
    u = (random16(3, 5 * 7 * 11, KEY).double() + 0.5) / 65536
    expected = torch.logit(u).float().view(3, 5, 7, 11)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64):
        like = laid_out(torch.full((3, 5, 7, 11), 7, dtype=dtype))
        for f in (ops.logistic, torch.ops.dropkit.logistic):
            noise = f(like, K)
            assert torch.equal(noise, expected)  # of its type too
            assert noise.stride() == torch.empty_like(like).stride()
    assert ops.logistic(torch.empty(0, 3), K).shape == (0, 3)


def test_logistic_noise_under_the_rest_of_torch():
    x = activation().requires_grad_()
    torch.library.opcheck(torch.ops.dropkit.logistic.default, (x, K))
    for f in (ops.logistic, torch.ops.dropkit.logistic):
        assert not f(x, K).requires_grad
        assert torch.equal(grad(lambda x, f=f: (f(x, K) * x).sum())(x.detach()), f(x, K).double())
        _, tangent = jvp(lambda x, f=f: f(x, K) * x, (x.detach(),), (x.detach(),))
        assert torch.equal(tangent, f(x, K) * x.detach())
    keys = torch.stack([key_words(seed) for seed in (1, 2)])
    batched = vmap(ops.logistic, (None, 0))(x.detach(), keys)
    assert torch.equal(batched, torch.stack([ops.logistic(x, key) for key in keys]))
    found = []
    for key in (lambda: None, lambda: fresh_key(x)):
        torch.manual_seed(8)
        found.append(ops.logistic(x, key()))
    assert torch.equal(*found)


def test_a_recomputation_under_another_key_is_refused():
    """What activation checkpointing does to saved tensors, with the wrong key."""
    for operator, rest in ((ops.drop, (R,)), (ops.drop_channels, (R,)), (ops.gaussian, (DEVIATION,))):
        other = key_words(8, 3, 5, 2)
        for swapped, refused in ((other, True), (K.clone(), False)):

            def swap(tensor, swapped=swapped):
                return swapped if len(tensor) == 4 else tensor

            x = activation().requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, swap):
                y = operator(x, K, *rest)
            if refused:
                with pytest.raises(RuntimeError, match="had another key"):
                    y.sum().backward()
            else:
                y.sum().backward()
