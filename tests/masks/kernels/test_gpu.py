import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BENCHMARK = HERE.parents[2] / "benchmarks" / "gpu.py"

triton_needed = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def run(*command, cache, interpret="0"):
    """Run Python in a process of its own: whether Triton interprets is settled when it is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": interpret, "TRITON_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


@triton_needed
def test_equals_the_reference_bit_for_bit(tmp_path):
    report = run("-m", "pytest", "-p", "no:cacheprovider", HERE / "interpreted_gpu.py", cache=tmp_path, interpret="1")
    assert " passed" in report


@triton_needed
def test_compiles_for_gpus(tmp_path):
    """No GPU is needed to see that the code is accepted, reads and writes 16 bytes at a time and rounds twice."""
    found = json.loads(run(HERE / "compiled_gpu.py", cache=tmp_path))
    for name in ("line", "grid", "where_positive"):
        assert found[name]["ld.global.v4.b32"] >= 2
        assert found[name]["st.global.v4.b32"] >= 2
    assert found["line"]["div.rn.f64"] >= 1  # the scale, rounded as Rate.scale is
    for counts in found.values():
        assert not [name for name in counts if name.startswith("fma") or ".ftz" in name]


@triton_needed
def test_the_benchmark_runs_in_the_interpreter(tmp_path):
    assert "| copy |" in run(BENCHMARK, "--interpret", cache=tmp_path)


def test_triton_is_not_imported_with_dropkit(tmp_path):
    code = "import dropkit, sys; dropkit.Dropout(0.5)(__import__('torch').ones(3)); print('triton' in sys.modules)"
    assert run("-c", code, cache=tmp_path).strip() == "False"
