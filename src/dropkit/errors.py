"""The one error that a user can mend: it says what was given, what is allowed and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class DropkitError(Exception):
    """A mistake in what the user gave. The command prints its message without a traceback and exits with 2.

    No ValueError: parsers of command lines catch those and bury the message in their own.
    """


def unknown(what: str, given: str, allowed: Iterable[str]) -> DropkitError:
    """Return the error for a name that is not among the allowed ones, with the nearest one suggested.

    >>> print(unknown("model", "cn", ["cnn", "mlp"]))
    unknown model 'cn': allowed are cnn, mlp. Did you mean 'cnn'?
    """
    names = list(allowed)
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DropkitError(f"unknown {what} {given!r}: allowed are {', '.join(names)}.{hint}")


def missing_extra(what: str, extra: str) -> DropkitError:
    """Return the error for a feature whose optional packages are not installed.

    >>> print(missing_extra("--tensorboard", "tensorboard"))
    --tensorboard needs packages that are not installed: pip install 'dropkit[tensorboard]'
    """
    return DropkitError(f"{what} needs packages that are not installed: pip install 'dropkit[{extra}]'")
