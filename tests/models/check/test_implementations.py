import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit
from dropkit.models.check import implementations
from dropkit.models.check.evidence import Evidence


def findings(model, example):
    evidence = Evidence(model, example)
    return [finding for rule in implementations.RULES for finding in rule(evidence)]


@pytest.fixture
def blocks(libraries):
    """DropBlock layers, by library and axes."""
    from timm.layers import DropBlock2d
    from torchvision.ops import DropBlock2d as TorchvisionsDropBlock2d
    from torchvision.ops import DropBlock3d

    return {"timm": DropBlock2d, "torchvision": TorchvisionsDropBlock2d, "3d": DropBlock3d}


def found_for(layer, *sides):
    return findings(nn.Sequential(layer, nn.ReLU()), torch.zeros(2, 3, *sides))


def expected(library, side, block, p):
    """Return the rate that follows from the seeds: a unit is kept if none of the seeds that reach it begins a block.

    timm's seeds lie on the whole map, torchvision's where a whole block fits.
    """
    margin = 0 if library == "timm" else block // 2
    seeds = range(margin, side - margin)
    reaching = [sum(abs(seed - unit) <= block // 2 for seed in seeds) for unit in range(side)]
    gamma = p * side**2 / block**2 / (side - block + 1) ** 2
    kept = [(1 - gamma) ** (rows * columns) for rows in reaching for columns in reaching]
    return 1 - sum(kept) / side**2


FOUND = [("timm", 7, 7, 0.1), ("timm", 8, 7, 0.1), ("timm", 14, 7, 0.5), ("timm", 56, 7, 0.1)]
FOUND += [("torchvision", 14, 7, 0.5), ("torchvision", 9, 3, 0.4)]


@pytest.mark.parametrize(("library", "side", "block", "p"), FOUND)
def test_rates_of_other_libraries(blocks, library, side, block, p):
    (finding,) = found_for(blocks[library](p, block), side, side)
    assert (finding.code, finding.severity, finding.where) == ("DK018", "warning", "0")
    assert f"{library}'s DropBlock2d is asked to drop {p} of the units" in finding.observed
    rate = float(finding.observed.split("drops ")[1].split(",")[0])
    assert rate == pytest.approx(expected(library, side, block, p), abs=0.006)
    assert finding.observed.endswith(f"with blocks of {block} on maps of {side}x{side}")
    assert "dropkit.convert" in finding.cure


NEAR = [("torchvision", 56, 7, 0.1, 0.096), ("torchvision", 14, 7, 0.1, 0.092), ("torchvision", 7, 7, 0.1, 0.1)]
NEAR += [("timm", 13, 1, 0.3, 0.3), ("timm", 32, 3, 0.1, 0.102)]


@pytest.mark.parametrize(("library", "side", "block", "p", "rate"), NEAR)
def test_rates_that_are_nearly_right(blocks, library, side, block, p, rate):
    assert expected(library, side, block, p) == pytest.approx(rate, abs=0.002)
    assert found_for(blocks[library](p, block), side, side) == []


def test_maps_of_three_axes(blocks):
    (finding,) = found_for(blocks["3d"](0.5, 3), 5, 6, 7)
    assert finding.observed.endswith("with blocks of 3 on maps of 5x6x7")
    assert "dropkit.DropBlock3d" in finding.cure
    assert found_for(blocks["3d"](0.5, 1), 5, 6, 7) == []


def test_one_layer_on_two_maps_is_measured_on_both(blocks):
    layer = blocks["timm"](0.1, 7)
    found = findings(nn.Sequential(layer, nn.AvgPool2d(8), layer), torch.zeros(2, 3, 56, 56))
    assert [f.observed.rpartition(" ")[2] for f in found] == ["56x56", "7x7"]
    assert ["drops 0.11" in f.observed for f in found] == [True, False]


def test_layers_alike_are_measured_once(blocks, monkeypatch):
    measured = []
    monkeypatch.setattr(implementations, "_realised", lambda *args: measured.append(args) or (0.5, 0.001))
    model = nn.Sequential(*(blocks["timm"](p, 3) for p in (0.1, 0.1, 0.2, 0.1)))
    assert [f.where for f in findings(model, torch.zeros(2, 3, 11, 11))] == ["0", "1", "2", "3"]
    assert len(measured) == 2


def test_what_drops_nothing_or_asks_for_something_else_is_left_out(blocks):
    timm = blocks["timm"]
    for layer in (timm(0.0, 7), timm(0.1, 7, gamma_scale=0.25), timm(0.1, 7, with_noise=True), timm(1.0, 7)):
        assert found_for(layer, 14, 14) == []
    frozen = nn.Sequential(timm(0.1, 7), nn.ReLU())
    frozen[0].eval()
    assert findings(frozen, torch.zeros(2, 3, 7, 7)) == []


@pytest.mark.parametrize(
    ("p", "sides", "tells"),
    [
        (0.003, (56, 56), True),
        (0.002, (56, 56), False),  # 86 blocks in all
        (0.1, (256, 511), True),
        (0.1, (256, 513), False),  # 15 maps
    ],
)
def test_too_few_blocks_or_maps_tell_nothing(blocks, p, sides, tells):
    layer = blocks["timm"](p, 7)
    evidence = Evidence(nn.Sequential(layer), torch.zeros(2, 3, 7, 7))
    realised = implementations._realised(evidence, layer, dropkit.DropBlock2d(p, 7), sides)
    assert (realised is not None) == tells


@pytest.mark.parametrize(("rate", "error", "off"), [(0.111, 0.001, 1), (0.109, 0.001, 0), (0.111, 0.003, 0)])
def test_a_rate_is_off_by_a_tenth_and_by_four_standard_errors(rate, error, off):
    assert implementations._is_off(0.1, rate, error) == off
    assert implementations._is_off(0.1, 0.2 - rate, error) == off


def test_the_error_is_that_of_a_mean_over_maps(blocks):
    """Where one block covers a map, maps are kept or dropped whole: the error is a binomial's over maps, not units."""
    layer = blocks["torchvision"](0.1, 7)
    evidence = Evidence(nn.Sequential(layer), torch.zeros(2, 3, 7, 7))
    rate, error = implementations._realised(evidence, layer, dropkit.DropBlock2d(0.1, 7), (7, 7))
    maps = implementations._UNITS // 49
    assert error == pytest.approx((rate * (1 - rate) / maps) ** 0.5, rel=0.01)
    assert abs(rate - 0.1) < 4 * error


@pytest.mark.parametrize("side", [7, 14])
def test_dropkit_s_blocks_are_as_asked(blocks, side):
    model = nn.Sequential(blocks["timm"](0.5, 7), nn.ReLU())
    assert findings(model, torch.zeros(2, 3, side, side)) != []
    dropkit.convert(model)
    assert findings(model, torch.zeros(2, 3, side, side)) == []


def test_measuring_leaves_layer_and_generator_alone(blocks):
    layer = blocks["timm"](0.1, 7, inplace=True).train()
    calls = []
    layer.register_forward_hook(lambda *args: calls.append(args))
    evidence = Evidence(nn.Sequential(layer), torch.zeros(2, 3, 7, 7))
    assert evidence.training.operations
    state, layer.training = torch.get_rng_state(), False
    calls.clear()
    rates = [implementations._realised(evidence, layer, dropkit.DropBlock2d(0.1, 7), (7, 7)) for _ in range(2)]
    assert rates[0] == rates[1]
    assert rates[0][0] > 0.9
    assert torch.equal(torch.get_rng_state(), state)
    assert (calls, layer.training) == ([], False)


def in_bfloat16(*layers):
    return nn.Sequential(nn.Linear(5, 7), *layers).bfloat16()


X = torch.zeros(3, 5, dtype=torch.bfloat16)


@pytest.mark.parametrize(("p", "bias"), [(0.1, -0.157), (0.25, 0.19), (0.4, -0.15)])
def test_a_scale_that_is_rounded_far(p, bias):
    (finding,) = findings(in_bfloat16(nn.Dropout(p)), X)
    assert (finding.code, finding.severity, finding.where) == ("DK019", "note", "1")
    assert float(finding.observed.split("it is ")[1].split("%")[0]) == pytest.approx(bias, abs=0.012)
    assert "dropkit.convert" in finding.cure


@pytest.mark.parametrize("p", [0.0, 0.2, 0.3, 0.35, 0.5, 1.0])
def test_a_scale_that_is_rounded_little(p):
    assert findings(in_bfloat16(nn.Dropout(p)), X) == []


@pytest.mark.parametrize(("dtype", "count"), [(torch.bfloat16, 1), (torch.float16, 0), (torch.float32, 0)])
def test_other_types_have_finer_scales(dtype, count):
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.1, inplace=True))
    assert len(findings(model, torch.zeros(3, 5, dtype=dtype))) == count


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_channel_layers(spatial):
    model = nn.Sequential(getattr(nn, f"Dropout{spatial}d")(0.1))
    (finding,) = findings(model, torch.zeros(3, 5, *(2,) * spatial, dtype=torch.bfloat16))
    assert f"dropkit.Dropout{spatial}d" in finding.cure


def test_what_runs_under_autocast_is_bfloat16_in_part():
    model = nn.Sequential(nn.Dropout(0.1), nn.Linear(5, 7), nn.Dropout(0.1))
    with torch.autocast("cpu", torch.bfloat16):
        assert [f.where for f in findings(model, X.float())] == ["2"]
    assert findings(model, X.float()) == []


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, 0.1, self.training)


@pytest.mark.parametrize("function", [F.dropout, F.dropout1d, torch.dropout, torch.dropout_])
def test_functions(function):
    (finding,) = findings(Functional(function), X[None])
    assert "test_implementations.py:" in finding.where
    assert f"dropkit.functional.{function.__name__.rstrip('_')}" in finding.cure


def test_functions_that_do_not_act_or_are_dropkit_s():
    assert findings(Functional(lambda x, p, training: F.dropout(x, p, False)), X) == []
    assert findings(Functional(dropkit.functional.dropout), X) == []


def test_a_layer_in_eval_mode_is_left_out():
    model = in_bfloat16(nn.Dropout(0.1))
    model[1].eval()
    assert findings(model, X) == []


@pytest.mark.parametrize("p", [0.1, 0.2, 0.25, 0.4])
def test_the_cure_cures(p):
    """dropkit rounds the product alone, and of values as they come about as often up as down."""
    model = in_bfloat16(nn.Dropout(p))
    dropkit.convert(model)
    assert findings(model, X) == []
    evidence = Evidence(model, X)
    biases = [
        abs(implementations._scale_bias(evidence, function, p, torch.device("cpu")))
        for function in (F.dropout, lambda x, p, training: dropkit.functional.dropout(x, p, training))
    ]
    assert biases[1] < 0.0006
    assert biases[1] < biases[0] / 2 or biases[0] < 0.0001


def test_it_is_measured_not_supposed(monkeypatch):
    """On other devices torch may form the product in float32 itself."""
    monkeypatch.setitem(implementations._DROPOUTS, nn.Dropout, dropkit.functional.dropout)
    assert findings(in_bfloat16(nn.Dropout(0.1)), X) == []


def test_measuring_the_scale_leaves_the_generator_alone():
    model, state = in_bfloat16(nn.Dropout(0.1)), torch.get_rng_state()
    assert findings(model, X)
    assert torch.equal(torch.get_rng_state(), state)
