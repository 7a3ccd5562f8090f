"""Makes the records of `synthetic.py` fixtures: each test gets its own copy to change."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    # pytest imports test files without putting their folder on the path
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    return _load("synthetic")


@pytest.fixture(scope="session")
def synthetic_details() -> ModuleType:
    return _load("synthetic_details")


@pytest.fixture
def study(synthetic: ModuleType) -> dict[str, Any]:
    return synthetic.study()


@pytest.fixture
def full_study(study: dict[str, Any], synthetic_details: ModuleType) -> dict[str, Any]:
    """The study with its details."""
    names = tuple(policy["name"] for policy in study["policies"])
    return {**study, "details": synthetic_details.details(names, [str(digit) for digit in range(10)], 5)}


@pytest.fixture
def single_run(synthetic: ModuleType) -> dict[str, Any]:
    return synthetic.single_run()


@pytest.fixture
def full_run(single_run: dict[str, Any], synthetic_details: ModuleType) -> dict[str, Any]:
    """The run with its details."""
    return {**single_run, "details": synthetic_details.details(("fc=0.5",), [str(d) for d in range(10)], 1)}
