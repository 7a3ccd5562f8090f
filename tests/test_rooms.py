"""The rooms depend on one another in one direction, and importing costs nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dropkit

SOURCE = Path(dropkit.__file__).parent
ORDER = [
    "errors",
    "files",
    "callables",
    "masks",
    "layers",
    "functional",
    "models",
    "uncertainty",
    "testing",
    "data",
    "report",
    "runs",
    "studies",
    "bench",
    "cli",
]
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room_of(path):
    return path.parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse((SOURCE / path).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert node.level == 0, f"{path}: relative import"
        for name in names:
            parts = name.split(".")
            if parts[0] == "dropkit" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_room_imports_one_above_it(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for other in imported_rooms(path):
        assert ORDER.index(other) <= ORDER.index(room), f"{path} imports {other}"


def test_the_report_knows_records_alone():
    for path in MODULES:
        if room_of(path) == "report":
            assert set(imported_rooms(path)) <= {"errors", "files", "report"}, path
    assert not loaded_after("import dropkit.report.page") & {"torch", "scipy", "sklearn"}


def loaded_after(statement):
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "numpy", "scipy", "sklearn", "plotly", "PIL", "jinja2", "rich", "tyro", "joblib", "triton"}


def test_importing_dropkit_imports_nothing_heavy():
    assert loaded_after("import dropkit") & HEAVY == set()


def test_a_layer_needs_torch_and_none_of_the_rest():
    assert loaded_after("import dropkit; dropkit.Dropout(0.5)") & (HEAVY - {"numpy"}) == {"torch"}


def test_the_commands_help_needs_no_torch():
    loaded = loaded_after("import dropkit.cli")
    assert loaded & (HEAVY - {"tyro", "rich"}) == set()


def test_every_public_name_is_there_and_listed():
    for name in dropkit.__all__:
        assert getattr(dropkit, name) is not None
    assert set(dropkit.__all__) <= set(dir(dropkit))
    with pytest.raises(AttributeError, match="no attribute 'Dropuot'"):
        dropkit.Dropuot  # noqa: B018
