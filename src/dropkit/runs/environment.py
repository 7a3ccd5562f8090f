"""What produced a run: versions, hardware, revision."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("dropkit", "torch", "numpy", "scipy", "scikit-learn", "safetensors")


def describe_environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return versions, hardware and revision, as plain JSON values."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: version(name) for name in PACKAGES},
        "revision": _revision(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": str(dtype).removeprefix("torch."),
    }


def _revision() -> str | None:
    """Return dropkit's git revision when it runs from a checkout, marked where files have changed since."""
    here = Path(__file__).resolve().parent
    words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # A copy inside somebody else's repository (a virtual environment, say) is not a checkout of dropkit.
        tracked = subprocess.run([*words[:3], "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True)
        if tracked.returncode != 0:
            return None
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def cpu_name() -> str:
    """Return the processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
