"""What the rubbish tests share: how many inputs, and a place outside which nothing may be written."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# make rubbish gives 10,000 and more in all; the usual run has a few of each kind.
INPUTS = int(os.environ.get("DROPKIT_RUBBISH", "400"))
KINDS = 8

settings.register_profile(
    "rubbish",
    derandomize=True,
    deadline=None,
    max_examples=max(INPUTS // KINDS, 1),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Work in a folder beside which nothing appears."""
    place = tmp_path / "inside"
    place.mkdir()
    monkeypatch.chdir(place)
    yield place
    assert sorted(os.listdir(tmp_path)) == ["inside"], "something was written outside"
    assert not Path("/tmp/evil").exists()
