"""Every private name of torch that dropkit takes, doing what dropkit takes it for."""

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dropkit.masks import private_torch as private

# torch's own forward-mode differentiation still uses it
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")


def test_a_single_level_function_runs_where_it_is_enabled():
    class Double(private.SingleLevelFunction):
        @staticmethod
        def forward(x):
            with private.below_autograd():
                return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, dy):
            return dy * 2

        @staticmethod
        def jvp(ctx, dx):
            return dx * 2

    x = torch.ones(3, requires_grad=True)
    with private.single_level():
        y = Double.apply(x)
    y.sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0))


def test_below_autograd_no_graph_is_recorded():
    x = torch.ones(3, requires_grad=True)
    with private.below_autograd():
        assert (x * 2).grad_fn is None
    assert (x * 2).grad_fn is not None


def test_in_backward():
    seen = []
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda _: seen.append(private.in_backward()))
    assert not private.in_backward()
    y.sum().backward()
    assert seen == [True]


def test_saving_is_watched():
    from torch.utils.checkpoint import checkpoint

    seen = []

    def double(x):
        seen.append(private.saving_is_watched())
        return x * 2

    double(torch.ones(3))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        double(torch.ones(3))
    checkpoint(double, torch.ones(3, requires_grad=True), use_reentrant=False)
    double(torch.ones(3))
    assert seen == [False, True, True, False]


def test_in_functorch():
    seen = []

    def double(x):
        seen.append(private.in_functorch())
        return x * 2

    torch.func.grad(double)(torch.tensor(1.0))
    torch.func.vmap(double)(torch.ones(3))
    torch.func.jvp(double, (torch.ones(3),), (torch.ones(3),))
    assert seen == [True] * 3
    assert not private.in_functorch()


class Passing(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_in_dispatch_mode():
    assert not private.in_dispatch_mode()
    with Passing():
        assert private.in_dispatch_mode()


def test_in_function_mode():
    assert not private.in_function_mode()
    with BaseTorchFunctionMode():
        assert private.in_function_mode()


def test_in_forward_mode():
    seen = []

    def double(x):
        seen.append(private.in_forward_mode())
        return x * 2

    torch.func.jvp(double, (torch.ones(3),), (torch.ones(3),))
    with torch.autograd.forward_ad.dual_level():
        double(torch.ones(3))
    assert seen == [True, True]
    assert not private.in_forward_mode()


def test_nothing_that_would_miss_the_operator_is_eager():
    x, seen = torch.ones(3, dtype=torch.complex64), []

    def look(x):
        seen.append(private.is_eager(x))
        return x

    assert private.is_eager(x)
    assert private.is_eager(torch.nn.Parameter(torch.ones(3)))
    look(x.conj())
    look(x.conj().imag)
    for mode in (BaseTorchFunctionMode(), Passing(), torch._subclasses.FakeTensorMode()):
        with mode:
            look(torch.ones(3))
    torch.func.vmap(look)(torch.ones(3))
    torch.func.jvp(look, (torch.ones(3),), (torch.ones(3),))
    with torch.autograd.forward_ad.dual_level():
        look(torch.ones(3))
    torch.compile(look, backend="eager", fullgraph=True)(torch.ones(3))
    assert len(seen) == 9
    assert not any(seen)


def test_plain_tensors():
    seen = []
    x = torch.ones(3)
    torch.func.vmap(lambda x: (seen.append(private.is_plain(x)), x)[1])(x)
    torch.func.jvp(lambda x: (seen.append(private.is_plain(x)), x)[1], (x,), (x,))
    with torch._subclasses.FakeTensorMode():
        seen.append(private.is_plain(torch.ones(3)))
    y = x.clone().requires_grad_()
    y.register_hook(lambda dy: seen.append(private.is_plain(dy)))
    torch.autograd.grad(y * 2, y, torch.ones(5, 3), is_grads_batched=True)
    assert seen == [False] * 4
    assert private.is_plain(x)
    assert private.is_plain(torch.nn.Parameter(x))


def test_the_keys_of_the_dispatcher():
    for key in (private.AUTOGRAD_KEY, private.VMAP_RANDOMNESS_KEY):
        torch._C._dispatch_key_parse(key)
