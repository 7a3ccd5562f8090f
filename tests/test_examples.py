"""The examples run as a reader would run them, and the docstrings' examples are right."""

import doctest
import importlib
import runpy
import sys
from pathlib import Path

import pytest

import dropkit

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(dropkit.__file__).parent
MODULES = sorted(
    ".".join(("dropkit", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_own_loop_learns(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["own_loop.py", "--epochs", "2"])
    runpy.run_path(str(ROOT / "examples" / "own_loop.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert float(lines[1].rsplit(" ", 1)[1].rstrip("%")) < 20  # one in ten is right by chance
