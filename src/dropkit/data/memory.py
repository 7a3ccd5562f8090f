"""How much memory there is to use: what the system says, and what a container allows."""

from pathlib import Path

import psutil

# (limit, used, statistics, which of them) of a control group: containers are given less than the machine has.
# Version 2 and version 1.
_GROUPS = (
    (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup/memory.stat",
        "inactive_file",
    ),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_memory() -> int:
    """Return the bytes that can be used without swapping, as near as the system tells.

    >>> available_memory() > 0
    True
    """
    groups = (_of_group(*files) for files in _GROUPS)
    free: int = psutil.virtual_memory().available
    return min([free, *(count for count in groups if count is not None)])


def _of_group(limit: str, used: str, statistics: str, cached: str) -> int | None:
    try:
        allowed, taken = int(Path(limit).read_text()), int(Path(used).read_text())
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
    # what was read from files counts as used, but gives way to whoever needs the memory
    return max(0, allowed - max(0, taken - _statistic(statistics, cached)))


def _statistic(file: str, name: str) -> int:
    """Return a number of a file with a name and a number on each line, 0 where it cannot be read."""
    try:
        found = dict(line.split() for line in Path(file).read_text().splitlines())
        return int(found.get(name, 0))
    except (OSError, ValueError):
        return 0
