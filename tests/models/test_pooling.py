"""ReLU and max-pooling in the cheaper order: the same bits, forward and backward."""

import pytest
import torch
import torch.nn.functional as F

from dropkit.models.pooling import ReLUMaxPool2d


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("windows", [(2,), (3, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_outputs_and_gradients_are_those_of_relu_then_pooling(dtype, memory_format, hooked, windows, ceil_mode):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(3, 5, 11, 7, generator=generator).to(dtype).contiguous(memory_format=memory_format)
    x[0, 0, :2, :2] = 1.5  # a tie
    x[0, 1, :4] = -1.0  # nothing positive
    x[0, 2, 0, 0] = torch.inf
    layer = ReLUMaxPool2d(*windows, ceil_mode=ceil_mode)
    if hooked:
        layer.relu.register_forward_hook(lambda module, args, output: None)
    results = []
    for function in (layer, lambda t: F.max_pool2d(F.relu(t), *windows, ceil_mode=ceil_mode)):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        y.backward(torch.arange(y.numel(), dtype=dtype).view(y.shape))
        results.append((y.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert 0 < int((results[0][1] != 0).sum()) < x.numel()


def test_what_acts_on_the_activation_acts_before_the_pooling():
    layer = ReLUMaxPool2d(2)
    seen = []
    layer.relu.register_forward_hook(lambda module, args, output: seen.append(output.shape) or -output)
    y = layer(torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]]))
    assert seen == [(1, 1, 2, 2)]
    assert y.item() == 0.0  # the largest of -1, -2, -3 and 0: not rectified once more
