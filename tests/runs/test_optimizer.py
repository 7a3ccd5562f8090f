"""The optimizer's learning rate as a function of progress."""

import dataclasses

import pytest
import torch
from torch import nn, optim

from dropkit.runs.checkpoint import read_tensors
from dropkit.runs.config import TrainConfig
from dropkit.runs.fitting import Fit
from dropkit.runs.optimizer import LearningRate
from dropkit.runs.training import advance, load_data


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.3, 0.2, 0.0]),
        ("cosine", [0.4, 0.4 * (1 + 2**-0.5) / 2, 0.2, 0.0]),
    ],
)
def test_the_rate_falls_as_the_schedule_says(name, rates):
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = optim.SGD([{"params": layers[0].parameters()}, {"params": layers[1].parameters(), "lr": 0.04}], lr=0.4)
    rate = LearningRate(TrainConfig(data="digits", lr_schedule=name, epochs=4), optimizer)
    for done, expected in zip((0.0, 0.25, 0.5, 1.0), rates, strict=True):
        rate.apply(done)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected, expected / 10])


def test_a_training_uses_it_step_by_step():
    config = TrainConfig(data="digits", model="mlp:8", epochs=2, optimizer="sgd", lr=0.1, lr_schedule="linear")
    fit = Fit(config, *load_data(config))
    steps = fit.data.steps(config.batch_size)
    fit.train_epoch(most_steps=3)
    assert fit.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 - 2 / (2 * steps)))


def test_a_training_that_pauses_has_the_bits_of_one_that_does_not(tmp_path):
    config = TrainConfig(data="digits", model="mlp:8", epochs=3, lr_schedule="cosine", threads=1)
    data = load_data(config)
    whole, paused = (dataclasses.replace(config, out=str(tmp_path / name)) for name in ("whole", "paused"))
    advance(whole, data)
    for until in (1, None):
        advance(paused, data, until=until)
    first, second = (read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("whole", "paused"))
    assert all(torch.equal(first[key], second[key]) for key in first)
