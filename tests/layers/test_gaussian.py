import math

import pytest
import torch
from scipy import stats
from torch import nn

from dropkit.layers import Dropout, keyed
from dropkit.layers.gaussian import GaussianDropout, gaussian_dropout
from dropkit.masks import Key, site_of
from dropkit.masks.reference import random16

N = 300_007


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


# The noise


@pytest.mark.parametrize("p", [1e-7, 0.1, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("inplace", [False, True])
def test_it_is_the_definition_s(p, inplace):
    """Normal quantiles from scipy, chosen by the reference's bits; p is on no grid."""
    layer, x = GaussianDropout(p, inplace), random(5, 7, 11)
    with keyed(nn.ModuleDict({"drop": layer}), seed=2**63 + 1, step=5, first_sample=13):
        y = layer(x.clone())
    normal = stats.norm.ppf((random16(5, 77, Key(2**63 + 1, site_of("drop"), 5, 13)).numpy() + 0.5) / 65536)
    noise = 1 + math.sqrt(p / (1 - p)) * torch.from_numpy(normal).view(x.shape)
    # The table's factor for a variance of exactly one is 1.00003; then float32.
    torch.testing.assert_close(y.double(), x.double() * noise, rtol=0, atol=3e-4 * math.sqrt(p / (1 - p)) + 1e-6)
    assert not torch.equal(y, x) or p == 1e-7


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_mean_variance_and_shape(p):
    torch.manual_seed(11)
    variance = p / (1 - p)
    noise = gaussian_dropout(torch.ones(N, 1), p).double().flatten()
    assert abs(float(noise.mean()) - 1) < 5 * (variance / N) ** 0.5
    assert abs(float(noise.var()) - variance) < 5 * variance * (2 / N) ** 0.5
    assert stats.kstest(noise.numpy(), stats.norm(1, variance**0.5).cdf).pvalue > 1e-6


@pytest.mark.parametrize("p", [0.125, 0.5, 0.75])
def test_a_rate_means_the_same_variance_as_in_dropout(p):
    """Dropout's factors, enumerated: 0 with probability p, else what its output of ones shows."""
    scale = float(Dropout(p)(torch.ones(1009, dtype=torch.float64)).max())
    assert float(GaussianDropout(p)._deviation) ** 2 == pytest.approx((1 - p) * scale**2 - 1, rel=1e-12)


def test_units_and_calls_are_independent():
    torch.manual_seed(13)
    first, second = ((gaussian_dropout(torch.ones(N), 0.5) - 1).double() for _ in range(2))
    for a, b in ((first, second), (first[1:], first[:-1]), (first[8:], first[:-8])):
        assert abs(float((a * b).mean())) < 5 / len(a) ** 0.5


@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_is_the_noise(inplace):
    x = torch.ones(5, 7, requires_grad=True)
    y = gaussian_dropout(x * 1, 0.3, inplace=inplace)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_nothing_but_key_and_deviation_is_saved():
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        GaussianDropout()(random(5, 7, 11).requires_grad_())
    assert sorted(saved) == [1, 4]


def test_p_set_in_inference_mode_serves_training():
    layer, x = GaussianDropout(), torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        layer.p = 0.3
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        layer(x).sum().backward()
    assert not layer._deviation.is_inference()


# The ends, and what is refused


@pytest.mark.parametrize("p", [1, 1.0])
def test_p_of_1_is_refused(p):
    layer = GaussianDropout(0.3)

    def assign():
        layer.p = p

    for call in (lambda: GaussianDropout(p), assign, lambda: gaussian_dropout(torch.ones(3), p, training=False)):
        with pytest.raises(ValueError, match="from 0 to below 1, but got 1, at which the variance .* is infinite"):
            call()
    assert layer.p == 0.3
    assert float(layer._deviation) == math.sqrt(0.3 / 0.7)


def test_p_next_to_1_is_finite():
    y = gaussian_dropout(torch.ones(1009), math.nextafter(1, 0))
    assert torch.isfinite(y).all()
    assert y.abs().max() > 1e7


def test_no_elements_and_no_dimensions():
    for shape in ((), (0,), (2, 0, 3)):
        assert gaussian_dropout(torch.ones(shape)).shape == shape
        assert GaussianDropout()(torch.ones(shape)).shape == shape


@pytest.mark.parametrize("call", [gaussian_dropout, GaussianDropout()])
def test_refuses_input(call):
    with pytest.raises(TypeError, match="argument 'input' .* must be Tensor, not list"):
        call([1.0])
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        call(torch.ones(3, dtype=torch.int64))
    with pytest.raises(NotImplementedError, match="not defined for complex numbers"):
        call(torch.ones(3, dtype=torch.complex64))


def test_functional_defaults_are_dropout_s():
    x = torch.ones(31)
    assert not torch.equal(gaussian_dropout(x), x)
    assert gaussian_dropout(x, training=False) is x
    assert gaussian_dropout(x, 0) is x
    assert gaussian_dropout(x, inplace=True) is x
    assert not torch.equal(x, torch.ones(31))
