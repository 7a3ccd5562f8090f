"""Memory that was asked for and not given: torch says so in several ways."""

import torch


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory was asked for and not given.

    >>> ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    >>> ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and ("allocate memory" in words or "out of memory" in words)
