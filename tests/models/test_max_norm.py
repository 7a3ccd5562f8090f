"""max_norm: vectors that are too long, and no others, are scaled down to the ball."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from dropkit.errors import DropkitError
from dropkit.layers.weights import DropConnect
from dropkit.models.max_norm import max_norm

C = 0.75
LAYERS = {
    "DropConnect": lambda: DropConnect(nn.Conv2d(4, 6, 3, groups=2), 0.5).eval(),
    "Linear": lambda: nn.Linear(7, 5),
    "Conv1d": lambda: nn.Conv1d(6, 4, 3, groups=2),
    "Conv2d": lambda: nn.Conv2d(3, 5, 3),
    "Conv2d depthwise": lambda: nn.Conv2d(5, 5, 3, groups=5),
    "Conv3d": lambda: nn.Conv3d(3, 5, 2),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(5, 3, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(6, 4, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(3, 5, 2),
}


def layer_of(name, seed=0):
    torch.manual_seed(seed)
    layer = LAYERS[name]()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(
                torch.randn_like(parameter) * torch.rand(len(parameter)).view(-1, *[1] * (parameter.dim() - 1))
            )
    return layer


def vectors(layer):
    """Each unit's incoming weights, found from the outputs: an output is linear in the weights that it reads.

    Returns {unit: mask over the weight}, where the mask marks the weights with a gradient. It asks torch which weights
    reach a unit, and so knows nothing of the layout of weights, groups and transposed convolutions.
    """
    inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    space = () if isinstance(layer, nn.Linear) else (5,) * (layer.weight.dim() - 2)
    x = torch.rand(1, inputs, *space) + 1
    y = layer(x)
    return {
        unit: torch.autograd.grad(y[0, unit].sum(), layer.weight, retain_graph=True)[0] != 0
        for unit in range(y.shape[1])
    }


@pytest.mark.parametrize("name", LAYERS)
def test_long_vectors_come_to_norm_c_and_the_others_keep_every_bit(name):
    layer = layer_of(name)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    masks = vectors(layer)
    norms = torch.stack([before[mask].norm() for mask in masks.values()])
    c = float(norms.sort().values[len(norms) // 2 - 1 : len(norms) // 2 + 1].mean())  # about half are longer
    max_norm(layer, c)
    assert sum(int(mask.sum()) for mask in masks.values()) == before.numel()
    longer = 0
    for mask in masks.values():
        old, new = before[mask], layer.weight.detach()[mask]
        if old.norm() > c:
            longer += 1
            torch.testing.assert_close(new, old * (c / old.norm()), rtol=1e-6, atol=0)
        else:
            assert torch.equal(new, old)
    assert 0 < longer < len(masks)
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize(("module", "dim"), [("Linear", 0), ("Conv2d", 0), ("ConvTranspose1d", 1)])
def test_it_is_torchs_renorm(module, dim):
    """torch.renorm clamps sub-tensors too, though to c / (norm + 1e-7): equal but for the last digits."""
    layer = layer_of(module, seed=3)
    expected = torch.renorm(layer.weight.detach(), 2, dim, C)
    assert not torch.equal(expected, layer.weight)
    max_norm(layer, C)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-6, atol=1e-7)


def test_zero_vectors_vectors_on_the_ball_and_negative_zeros_stay():
    layer = nn.Linear(2, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, -0.0], [3.0, -4.0], [-0.0, 1e-38], [30.0, 40.0]]))
    before = layer.weight.detach().clone()
    max_norm(layer, 5)
    assert torch.equal(layer.weight.detach()[:3].view(torch.int32), before[:3].view(torch.int32))
    assert layer.weight.detach()[3].tolist() == [3.0, 4.0]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_does_not_pass_for_finite(value):
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, value], [0.25, 0.5]]))
    max_norm(layer, C)
    assert layer.weight[0].isnan().any()
    assert layer.weight[1].tolist() == [0.25, 0.5]


@pytest.mark.parametrize(("dtype", "eps"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8), (torch.float64, 2**-52)])
def test_other_types_are_measured_in_float32_at_least_and_rounded_once(dtype, eps):
    layer = layer_of("Linear").to(dtype)
    with torch.no_grad():
        layer.weight[0] = 1e3  # its squares overflow float16
        layer.weight[1] *= 2**-8 / layer.weight[1].norm()  # and these underflow it
    before = layer.weight.detach().double()
    max_norm(layer, C)
    after = layer.weight.detach().double()
    norms = before.norm(dim=1, keepdim=True)
    torch.testing.assert_close(after, before / (norms / C).clamp(min=1), rtol=1.01 * eps + 2**-50, atol=0)
    assert torch.equal(after[1], before[1])
    assert (after.norm(dim=1) <= C * (1 + eps)).all()
    assert layer.weight.dtype == dtype


def test_channels_last_and_mixed_types_in_one_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last), nn.Linear(7, 3).bfloat16())
    model.append(nn.Linear(2, 2).double())
    max_norm(model, 0.1)
    assert not model[0].weight.is_contiguous()
    for layer in model:
        norms = layer.weight.detach().double().flatten(1).norm(dim=1)
        assert norms.tolist() == pytest.approx([0.1] * len(norms), rel=2**-8)


def test_only_linear_and_convolution_weights_are_held():
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 7),
            "norm": nn.BatchNorm2d(5),
            "bilinear": nn.Bilinear(3, 5, 2),
            "lstm": nn.LSTM(3, 5),
            "linear": nn.Linear(3, 5),
        }
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    max_norm(model, 1e-3)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"linear.weight"}


def test_a_shared_weight_is_scaled_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    max_norm(model, 1.0)
    torch.testing.assert_close(model[0].weight.detach().norm(dim=1), torch.ones(3))


def test_parameters_stay_leaves_with_their_gradients_and_the_optimizer_goes_on():
    torch.manual_seed(0)
    model = nn.Linear(7, 5)
    optimizer = torch.optim.SGD(model.parameters(), 10.0)
    weight, x, y = model.weight, torch.randn(11, 7), torch.arange(11) % 5
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        gradient = weight.grad.clone()
        max_norm(model, 0.5)
        assert torch.equal(weight.grad, gradient)
    assert model.weight is weight
    assert weight.is_leaf
    assert weight.requires_grad
    assert (weight.detach().norm(dim=1) <= 0.5 * (1 + 1e-6)).all()


@pytest.mark.parametrize("c", [0, -1.0, math.nan, math.inf, True, "4", None])
def test_c_out_of_range(c):
    with pytest.raises(DropkitError, match="max_norm takes as c a finite number greater than 0, but got"):
        max_norm(nn.Linear(3, 5), c)


def test_a_model_that_has_nothing_to_hold_is_named():
    with pytest.raises(DropkitError, match="no linear and no convolution layer in this Sequential"):
        max_norm(nn.Sequential(nn.ReLU()), 4)


@pytest.mark.parametrize(
    "change",
    [lambda layer: parametrizations.weight_norm(layer), lambda layer: prune.l1_unstructured(layer, "weight", 0.5)],
)
def test_a_weight_that_is_computed_from_others_is_refused(change):
    model = nn.Sequential(nn.Linear(3, 5))
    change(model[0])
    with pytest.raises(DropkitError, match="cannot hold the weight of '0'.*remove the parametrization"):
        max_norm(model, 4)
