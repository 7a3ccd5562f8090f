"""Makes the records of `synthetic.py` fixtures: each test gets its own copy to change."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load() -> ModuleType:
    # pytest imports test files without putting their folder on the path
    spec = importlib.util.spec_from_file_location("synthetic", Path(__file__).with_name("synthetic.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def synthetic() -> ModuleType:
    return _load()


@pytest.fixture
def study(synthetic: ModuleType) -> dict[str, Any]:
    return synthetic.study()


@pytest.fixture
def single_run(synthetic: ModuleType) -> dict[str, Any]:
    return synthetic.single_run()
