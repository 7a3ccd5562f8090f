"""Layers compiled, exported and checkpointed do what they do eagerly, in one graph and one compilation."""

from contextlib import nullcontext

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.utils.checkpoint import checkpoint

from dropkit.layers import DropLayer, Dropout, Dropout2d, ReLUDropout, keyed

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


def network(inplace=False):
    return nn.Sequential(
        nn.Conv2d(3, 7, 3),
        ReLUDropout(0.3, inplace),
        Dropout2d(0.2, inplace),
        nn.Flatten(),
        Dropout(0.1, inplace),
        nn.Linear(7 * 5 * 5, 5),
        Dropout(0.4, convention="weight-scaling"),
    )


def activation():
    return torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(3))


def gradients(output, model):
    return torch.autograd.grad(output.square().sum(), list(model.parameters()))


def test_one_compilation_while_p_and_step_change():
    model, x = network(), activation()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(100):
        for layer in model.modules():
            if isinstance(layer, DropLayer):
                layer.p = 0.003 + 0.009 * step
        with keyed(model, seed=2**63 + 1, step=step):
            ours = compiled(x)
            if step % 19 == 0:  # eager autograd is the slow part
                eager = model(x)
                assert torch.equal(ours, eager)
                for a, b in zip(gradients(ours, model), gradients(eager, model), strict=True):
                    assert torch.equal(a, b)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("backend", "under_key", "checkpointed"),
    [
        *(("aot_eager", under_key, checkpointed) for under_key in (False, True) for checkpointed in (False, True)),
        ("inductor", False, True),  # slow: one of each
        ("inductor", True, False),
    ],
)
def test_compiled_equals_eager(backend, under_key, checkpointed):
    model, x = network(), activation()

    def run(x):
        return checkpoint(model, x, use_reentrant=False) if checkpointed else model(x)

    compiled = torch.compile(run, backend=backend, fullgraph=True)
    found = []
    for call in (compiled, compiled, model):
        torch.manual_seed(11)
        with keyed(model, seed=1, step=2) if under_key else nullcontext():
            y = call(x)
            torch.rand(3)  # another draw between forward and recomputation
            found.append([y, *gradients(y, model)])
    for ours, eager in zip(found[1], found[2], strict=True):
        torch.testing.assert_close(ours, eager)
    assert torch.equal(found[1][0] == 0, found[2][0] == 0)
    assert (found[0][0] == 0).any()


def test_both_modes_are_two_compilations():
    model, x = network(), activation()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(5):
        with keyed(model, seed=1, step=step, first_sample=step):
            compiled(x)
        compiled(x)
    assert counter.frame_count == 2


def test_one_compilation_for_every_batch_size():
    model = network()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for n in (5, 7, 11):
        x = torch.randn(n, 3, 7, 7)
        with keyed(model, seed=1, step=n):
            torch.testing.assert_close(compiled(x), model(x))
    assert counter.frame_count == 1


def test_in_place_layers_compiled():
    model, x = network(inplace=True), activation()
    with keyed(model, seed=1, step=2):
        ours, eager = torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x)
        assert torch.equal(ours, eager)
        for a, b in zip(gradients(ours, model), gradients(eager, model), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_draws_its_masks_as_the_model_does(strict):
    model, x = network(), activation()
    exported = torch.export.export(model, (x,), strict=strict).module()
    torch.manual_seed(7)
    first, second = exported(x), exported(x)
    torch.manual_seed(7)
    assert torch.equal(first, model(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("strict", [False, True])
def test_evaluation_exports_without_dropout(strict):
    exported = torch.export.export(network().eval(), (activation(),), strict=strict)
    assert not [node for node in exported.graph.nodes if "dropkit" in str(node.target)]


def test_random_operations_of_one_compiled_graph_keep_their_order():
    """Without a dependence between their draws the partitioner swaps them, and with them the layers' masks."""
    stages = ((nn.Linear(11, 11), Dropout(p), nn.Sigmoid()) for p in (0.5, 0.4, 0.3, 0.2))
    model = nn.Sequential(*(layer for stage in stages for layer in stage))
    x = torch.ones(5, 11)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in range(3):
        torch.manual_seed(seed)
        ours = compiled(x)
        torch.manual_seed(seed)
        assert torch.equal(ours, model(x))


def test_autocast():
    model, x = network(), activation()
    found = []
    for call in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        with torch.autocast("cpu", torch.bfloat16), keyed(model, seed=1, step=2):
            found.append(call(x))
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(*found)
