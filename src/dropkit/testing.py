"""For people's own tests: a network without misuse of dropout."""

from collections.abc import Collection
from typing import Any

from torch import nn

from dropkit.errors import unknown
from dropkit.models.check.check import check
from dropkit.models.check.codes import CODES


def assert_clean(model: nn.Module, example_input: Any, *, allow: Collection[str] = ()) -> None:
    """Raise if `dropkit.check` finds an error or a warning in a network. Notes do not fail.

    Args:
        model: any network; it is afterwards as it was.
        example_input: as for `dropkit.check`: a tensor, a tuple of positional or a dict of named arguments.
        allow: codes that may be found, such as ["DK020"].

    Raises:
        AssertionError: listing what was found.
        DropkitError: if the network cannot run on the example, or a code is unknown.

    Example:
        >>> import torch
        >>> from dropkit.models.cnn import CNNWithDropout
        >>> assert_clean(CNNWithDropout(), torch.randn(2, 1, 28, 28))
    """
    for code in allow:
        if code not in CODES:
            raise unknown("code", code, CODES)
    found = [f for f in check(model, example_input) if f.severity != "note" and f.code not in allow]
    if found:
        raise AssertionError("\n".join([f"misuse of dropout in {type(model).__name__}:", *map(str, found)]))
