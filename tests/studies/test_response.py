"""What a search learned: the response to each rate, and how much each choice matters, from trials of a known loss."""

from itertools import product

import numpy as np
import pytest

from dropkit.studies.response import Seen, _main_effect, importance, response, seen_in
from dropkit.studies.space import DECAY, make_space

SPACE = make_space({"conv", "fc"}, kinds=("unit", "channel"), decays=(0.0, 1e-4))


def truth(params):
    """A loss that depends on the rate of fc most, on that of conv with the kind, and not on the weight decay."""
    kind = 0.2 if params["conv kind"] == "channel" else 0.0
    return 0.4 + 0.5 * (params["fc"] - 0.5) ** 2 + kind * params["conv"]


def trials(count, noise=0.003, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        params = {name: levels[rng.integers(len(levels))] for name, levels in SPACE.levels().items()}
        loss = truth(params) + noise * rng.standard_normal()
        found.append(Seen(number, params, 1.0, loss, 0.3 * loss))
        found.append(Seen(number, params, 0.25, loss + 0.2, 0.1 * loss))
    return found


CHOSEN = {"conv": 0.1, "conv kind": "channel", "fc": 0.5, DECAY: 1e-4}


def test_the_response_is_that_of_the_loss_and_its_band_holds_it():
    curves = response(SPACE, trials(40), CHOSEN)
    assert [(curve["site"], curve["kind"], curve["others"]) for curve in curves] == [
        ("conv", "channel", "fc=0.5, weight decay 0.0001"),
        ("fc", "unit", "conv=channel:0.1, weight decay 0.0001"),
    ]
    held = points = 0
    for curve in curves:
        expected = [truth({**CHOSEN, curve["site"]: rate}) for rate in curve["rates"]]
        loss = curve["loss"]
        assert loss["mean"] == pytest.approx(expected, abs=0.02)  # of a range of .16
        held += sum(low <= value <= high for low, value, high in zip(loss["low"], expected, loss["high"], strict=True))
        points += len(expected)
        assert curve["gap"]["mean"] == pytest.approx([0.3 * value for value in expected], abs=0.02)
    assert held >= 0.8 * points  # 95% each, but neighbours err together
    fc = curves[1]
    assert fc["rates"][int(np.argmin(fc["loss"]["mean"]))] == pytest.approx(0.5, abs=0.11)


def test_few_trials_leave_wide_bands():
    widths = []
    for count in (8, 60):
        curve = response(SPACE, trials(count, noise=0.05), CHOSEN)[1]["loss"]
        widths.append(np.mean(np.array(curve["high"]) - np.array(curve["low"])))
    assert widths[0] > 1.3 * widths[1]


def test_importance_is_the_share_of_the_variance():
    found = {entry["name"]: entry for entry in importance(SPACE, trials(40))}
    assert next(iter(found)) == "fc rate"
    names, levels = list(SPACE.levels()), list(SPACE.levels().values())
    every = [dict(zip(names, each, strict=True)) for each in product(*levels)]
    logs = np.log([truth(params) for params in every])
    for title, name in (("fc rate", "fc"), ("conv rate", "conv"), ("conv kind", "conv kind")):
        means = [logs[[params[name] == level for params in every]].mean() for level in SPACE.levels()[name]]
        assert found[title]["share"] == pytest.approx(np.var(means) / np.var(logs), abs=0.12)
        assert found[title]["low"] <= found[title]["share"] <= found[title]["high"]
    assert sum(entry["share"] for entry in found.values()) < 1.02
    assert found["weight decay"]["share"] < 0.05


def test_the_shares_of_what_only_adds_up_are_the_whole():
    rng = np.random.default_rng(0)
    levels = [rng.permutation(np.resize(np.arange(count), 800)) for count in (17, 3)]
    values = np.stack([2.0 * (levels[0] - 8) + 5.0 * levels[1]] * 2)
    parts = [np.var(2.0 * np.arange(17)), np.var(5.0 * np.arange(3))]
    shares = [_main_effect(values, list(each))[0] for each in levels]
    assert shares == pytest.approx([part / sum(parts) for part in parts], abs=0.05)
    assert _main_effect(rng.standard_normal((50, 800)), list(levels[0])).mean() < 0.02  # chance has no share


def test_one_choice_alone_has_no_share():
    alone = make_space({"fc"}, decays=())
    seen = [Seen(number, {"fc": 0.05 * number}, 1.0, 0.4 + 0.01 * number, 0.1) for number in range(12)]
    assert importance(alone, seen) == []
    assert len(response(alone, seen, {"fc": 0.1})) == 1


def test_too_few_trials_say_nothing():
    assert response(SPACE, trials(7), CHOSEN) == []
    assert importance(SPACE, trials(7)) == []


def rows(*losses):
    return [{"val_loss": loss, "train_loss": loss / 2, "epoch": epoch} for epoch, loss in enumerate(losses, 1)]


def test_trials_are_seen_at_their_rungs_and_where_they_ended():
    told = [
        {"number": 0, "params": {"fc": 0.1}, "status": "finished"},
        {"number": 1, "params": {"fc": 0.2}, "status": "stopped"},
        {"number": 2, "params": {"fc": 0.3}, "status": "diverged"},
        {"number": 3, "params": None, "status": "finished"},
        {"number": 4, "params": {"fc": 0.4}, "status": "finished"},
    ]
    epochs = [rows(9, 5, 6, 4, 8), rows(7, 8), rows(9), rows(9), rows(3, 2, 1)]  # the last ended by itself
    seen = [(s.number, s.share, s.loss, s.gap) for s in seen_in(told, epochs, (2, 3))]
    assert seen == [
        *[(0, 0.4, 5, 2.5), (0, 0.6, 5, 2.5), (0, 1.0, 4, 2.0)],
        (1, 0.4, 7, 3.5),
        *[(4, 0.4, 2, 1.0), (4, 1.0, 1, 0.5)],
    ]
