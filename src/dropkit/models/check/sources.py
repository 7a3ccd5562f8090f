"""Lines of the user's code: where a call came from, how it is shown, and what was written there."""

import ast
import linecache
import sys
from pathlib import Path
from types import FrameType

from dropkit.models.trace import TORCH

_HIDDEN = ("/dropkit/layers/", "/dropkit/masks/", "/dropkit/models/check/", "importlib")


def calling_line() -> str:
    """Return file and line of the innermost code on the stack that is neither torch's nor of a dropout layer."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(TORCH) and not any(part in file.replace("\\", "/") for part in _HIDDEN):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def shown(source: str) -> str:
    """Return a line's address as people read it: relative, where the file lies below the working folder."""
    file, _, line = source.rpartition(":")
    try:
        return f"{Path(file).relative_to(Path.cwd())}:{line}"
    except (ValueError, OSError):
        return source


def leaves_out(source: str, function: str, position: int, names: tuple[str, ...]) -> bool:
    """Whether the call of a function at a line leaves an argument out.

    Args:
        source: file and line.
        function: the last part of the name it is called by.
        position: the argument's place.
        names: the argument's names.

    Returns:
        False also where the code is not at hand, or the line calls the function by another name.
    """
    file, _, line = source.rpartition(":")
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return False
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= int(line) <= (node.end_lineno or node.lineno)
        and ast.unparse(node.func).rpartition(".")[2] == function
    ]
    return bool(calls) and all(_leaves_out(call, position, names) for call in calls)


def _leaves_out(call: ast.Call, position: int, names: tuple[str, ...]) -> bool:
    spread = any(isinstance(arg, ast.Starred) for arg in call.args)
    named = any(keyword.arg in (None, *names) for keyword in call.keywords)
    return not spread and not named and len(call.args) <= position
