"""Schedules: rates by closed form, texts, and models whose layers follow them."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from torch import nn

from dropkit.errors import DropkitError
from dropkit.layers import DropLayer, Dropout, Dropout2d, ReLUDropout, keyed
from dropkit.layers.learned import ConcreteDropout
from dropkit.layers.schedule import Constant, Curriculum, Early, Late, Linear, Scheduled, parse

GRID = np.linspace(0, 1, 101)


def rates(schedule, p=0.4):
    return [schedule(p, float(t)) for t in GRID]


@pytest.mark.parametrize(
    ("schedule", "corners", "heights"),
    [
        (Constant(), [0, 1], [1, 1]),
        (Linear(), [0, 1], [0, 1]),
        (Linear(until=0.25), [0, 0.25, 1], [0, 1, 1]),
        (Early(), [0, 0.3, 1], [1, 0, 0]),
        (Early(until=1), [0, 1], [1, 0]),
        (Early(until=0.7), [0, 0.7, 1], [1, 0, 0]),
        (Late(0.5), [0, 0.4999, 0.5, 1], [0, 0, 1, 1]),
    ],
)
def test_straight_lines_between_their_corners(schedule, corners, heights):
    assert rates(schedule) == pytest.approx(0.4 * np.interp(GRID, corners, heights), abs=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 10])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_curriculum_keeps_what_the_paper_keeps(gamma, p):
    q = 1 - p
    kept = (1 - q) * np.exp(-gamma * GRID) + q
    assert rates(Curriculum(gamma), p) == pytest.approx(1 - kept, abs=1e-12)


def test_gamma_is_by_default_ten_over_the_whole_training():
    assert rates(Curriculum()) == rates(Curriculum(10.0))


def test_ends_are_exact():
    """A rate of exactly 0 is the identity, and the base rate gives the base rate's masks."""
    for p in (0.1, 0.3, 0.7):
        assert Early(0.3)(p, 0) == Linear(0.3)(p, 0.3) == Linear()(p, 1) == Late(0.3)(p, 0.3) == Constant()(p, 0.5) == p
        assert Early(0.3)(p, 0.3) == Linear()(p, 0) == Late(0.3)(p, 0.29) == Curriculum()(p, 0) == 0


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan, math.inf])
def test_progress_out_of_range(progress):
    with pytest.raises(DropkitError, match="progress is the share of a training that is done, from 0 to 1, but got"):
        Constant()(0.5, progress)


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (Linear, "until", [0, -1, 1.01, math.nan, True, "1", None]),
        (Early, "until", [0.0, 1.01, math.inf]),
        (Late, "start", [0, 1, 1.0, -0.5, math.nan]),
        (Curriculum, "gamma", [0, -10, math.inf, math.nan]),
    ],
)
def test_a_field_out_of_range_is_named(kind, field, values):
    for value in values:
        with pytest.raises(
            DropkitError, match=f"schedule {kind.__name__.lower()}: {field} must be .*, but got {value!r}"
        ):
            kind(value)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("constant", Constant()),
        ("linear", Linear()),
        ("linear:0.5", Linear(0.5)),
        ("early:0.3", Early(0.3)),
        ("late:0.5", Late(0.5)),
        ("curriculum", Curriculum(10)),
        ("curriculum:5", Curriculum(5)),
    ],
)
def test_texts(text, schedule):
    assert parse(text) == schedule


@pytest.mark.parametrize(
    "text",
    ["", "late", "early:", "early:x", "early:0.3:0.4", "constant:1", "Early:0.3", "cosine", ":", None, 3],
)
def test_other_texts_are_refused_and_told_what_is_allowed(text):
    with pytest.raises(
        DropkitError, match="schedule must be constant, linear, linear:UNTIL, early, early:UNTIL, .*, but got"
    ):
        parse(text)


def test_a_number_out_of_range_in_a_text_is_refused_too():
    with pytest.raises(DropkitError, match="schedule late: start must be .* less than 1, but got 1.0"):
        parse("late:1")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3),
        ReLUDropout(0.3),
        Dropout2d(0.2),
        nn.Flatten(),
        nn.Sequential(Dropout(0.1), nn.Linear(7 * 5 * 5, 5)),
        Dropout(0.0),
    )


def rates_of(model):
    return [layer.p for layer in model.modules() if isinstance(layer, DropLayer)]


def test_every_layer_has_its_own_base_rate_and_the_schedule_never_compounds():
    model = network()
    scheduled = Scheduled(model, Early(0.5))
    for progress in (0.25, 0.25, 0.9, 0.1, 0.25):
        scheduled.apply(progress)
    assert rates_of(model) == [0.15, 0.1, 0.05, 0.0]
    scheduled.restore()
    assert rates_of(model) == [0.3, 0.2, 0.1, 0.0]


def test_a_layer_that_occurs_twice_and_a_wrapped_model():
    layer = Dropout(0.4)
    model = nn.Sequential(layer, nn.Sequential(layer))
    Scheduled(torch.compile(model, backend="eager"), Linear()).apply(0.5)
    assert layer.p == 0.2


def test_the_state_dict_holds_nothing_of_it_and_copies_are_their_own():
    model = network()
    keys = set(model.state_dict())
    scheduled = Scheduled(model, Linear())
    scheduled.apply(0.5)
    assert set(model.state_dict()) == keys
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        scheduled.apply(1.0)
        assert rates_of(again) == [0.15, 0.1, 0.05, 0.0]
        scheduled.apply(0.5)


def test_masks_are_those_of_the_rate():
    x = torch.ones(1, 10_007)
    layer = Dropout(0.5)
    scheduled = Scheduled(layer, Linear())
    with keyed(layer, seed=0, step=0):
        scheduled.apply(0.0)
        assert layer(x) is x
        scheduled.apply(0.5)
        quarter = layer(x)
        assert torch.equal(quarter, Dropout.forward(_at(layer, 0.25), x))
    n, dropped = x.numel(), int((quarter == 0).sum())
    assert abs(dropped - n / 4) < 5 * math.sqrt(n * 3 / 16)


def _at(layer, p):
    other = copy.copy(layer)
    other.key, other.p = layer.key, p
    return other


def test_a_rate_that_is_learned_is_left_to_the_optimizer():
    model = nn.Sequential(ConcreteDropout(0.3), nn.Linear(3, 5), Dropout(0.4))
    scheduled = Scheduled(model, Early(0.5))
    with torch.no_grad():
        model[0].p_logit.fill_(1.0)
    scheduled.apply(0.25)
    scheduled.restore()
    assert model[0].p_logit.item() == 1.0


def test_torchs_own_dropout_is_warned_of_and_a_model_without_dropout_left_alone():
    model = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))
    with pytest.warns(UserWarning, match="does not reach the torch.nn.Dropout at '1'") as caught:
        scheduled = Scheduled(model, Late(0.5))
    assert caught[0].filename == __file__
    scheduled.apply(0.1)
    assert model[1].p == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Scheduled(nn.Linear(3, 5), Late(0.5)).apply(0.1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("schedule", "compilations"),
    [
        (Curriculum(0.5), 2),  # the first step's rate is exactly 0
        (Early(0.5), 2),  # from the middle on it is exactly 0
        (Early(1), 1),
    ],
)
def test_compiled_code_takes_the_rates_as_data(schedule, compilations):
    torch._dynamo.reset()
    model, x = network()[:-1], torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(3))
    scheduled = Scheduled(model, schedule)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    outputs = []
    for step in range(20):
        scheduled.apply(step / 20)
        with keyed(model, seed=1, step=0):
            outputs.append(compiled(x).detach())
            assert torch.equal(outputs[-1], model(x))
    assert counter.frame_count == compilations
    assert not torch.equal(outputs[2], outputs[4])
