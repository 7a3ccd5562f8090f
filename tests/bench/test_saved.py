import pytest
import torch
from torch import nn

import dropkit
from dropkit.bench.saved import bytes_saved


@pytest.mark.parametrize(
    ("function", "least", "most"),
    [
        (lambda x: x * 2, 0, 64),
        (lambda x: x * x, 0, 0),
        (torch.relu, 0, 0),
        (lambda x: torch.sigmoid(x * 2), 0, 64),
        (lambda x: (x * 2).sin(), 4_000, 4_000 + 64),  # its own input, which nobody else has
        (nn.Dropout(0.3), 1_000, 8_000),
        (dropkit.Dropout(0.3), 1, 64),  # the key
        (dropkit.ReLUDropout(0.3), 0, 64),
    ],
)
def test_bytes(function, least, most):
    assert least <= bytes_saved(function, torch.randn(1_000)) <= most
