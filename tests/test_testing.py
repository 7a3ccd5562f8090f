"""assert_clean in people's own tests."""

import pytest
import torch
from torch import nn

import dropkit
from dropkit.errors import DropkitError
from dropkit.testing import assert_clean

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def net(rate):
    return nn.Sequential(nn.Linear(5, 11), nn.ReLU(), nn.Dropout(rate), nn.Linear(11, 3))


def test_a_clean_network_passes():
    assert_clean(net(0.5), X)
    assert_clean(dropkit.CNNWithDropout(), torch.zeros(2, 1, 28, 28))


@pytest.mark.parametrize(("rate", "code"), [(0.9, "DK012"), (1.0, "DK010")])
def test_warnings_and_errors_fail_with_their_text(rate, code):
    with pytest.raises(AssertionError, match=f"misuse of dropout in Sequential:\n2: .* {code}: p = {rate:g}"):
        assert_clean(net(rate), X)


def test_notes_pass():
    assert_clean(net(0.0), X)


def test_codes_that_are_allowed_pass():
    assert_clean(net(0.9), X, allow=["DK012"])
    with pytest.raises(AssertionError, match="DK010"):
        assert_clean(net(1.0), X, allow=["DK012"])
    with pytest.raises(DropkitError, match="unknown code 'DK12'.*Did you mean 'DK012'"):
        assert_clean(net(0.9), X, allow=["DK12"])
