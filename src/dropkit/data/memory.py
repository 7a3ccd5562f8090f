"""How much memory there is to use: what the system says, and what a container allows."""

from pathlib import Path

import psutil

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
    groups = (_of_group(*files) for files in _GROUPS)
    free: int = psutil.virtual_memory().available
    return min([free, *(count for count in groups if count is not None)])


def _of_group(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
