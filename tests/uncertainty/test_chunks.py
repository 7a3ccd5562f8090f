"""How many draws go at once: as many as the activations that depend on active dropout leave room for."""

import pytest
import torch
from torch import nn

import dropkit
from dropkit.uncertainty.chunks import CACHE_BYTES, draws_at_a_time


def net(early, late):
    return nn.Sequential(
        *(nn.Conv2d(1, 64, 3, padding=1), nn.Dropout(early), nn.Conv2d(64, 16, 3, padding=1), nn.Flatten()),
        *(nn.Linear(16 * 32 * 32, 64), nn.ReLU(), nn.Dropout(late), nn.Linear(64, 10)),
    )


@pytest.mark.parametrize(
    ("early", "late", "units"),
    [(0.5, 0.5, 64 * 32 * 32), (0.0, 0.5, 64)],  # the maps of the first convolution; the hidden layer alone
)
def test_the_largest_activation_behind_active_dropout_decides(early, late, units):
    x = torch.zeros(8, 1, 32, 32)
    expected = max(1, CACHE_BYTES // (units * 8 * 4))
    assert draws_at_a_time(net(early, late), x, 10**6) == expected
    assert draws_at_a_time(net(early, late), x, 3) == min(3, expected)


def test_functional_dropout_and_dropped_weights_count():
    class Functional(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, self.training).sum(1)

    x = torch.zeros(2, 1 << 18)
    assert draws_at_a_time(Functional(), x, 50) == CACHE_BYTES // (2 * 4 << 18)
    connected = nn.Sequential(dropkit.DropConnect(nn.Linear(1 << 18, 1 << 4), 0.5))
    assert draws_at_a_time(connected, x, 50) == 50
