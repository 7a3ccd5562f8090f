"""How much memory there is to use: what the system says, and what a container allows."""

import os
from pathlib import Path

_FALLBACK = 4 * 2**30  # bytes, where a system tells nothing

# (limit, used) of a control group: containers are given less than the machine has. Version 2 and version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory() -> int:
    """Return the bytes that can be used without swapping, as near as the system tells.

    >>> available_memory() > 0
    True
    """
    found = [_of_system(), *(_of_group(*files) for files in _GROUPS)]
    return min((count for count in found if count is not None), default=_FALLBACK)


def _of_system() -> int | None:
    """Return MemAvailable where /proc has it (Linux); half of the memory where only that is known (macOS)."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _of_group(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
