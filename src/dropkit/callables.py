"""Functions of the user's own, named in an option: module:function or path.py:function.

The only way in which dropkit runs code that is not its own. The command says it each time: a run's folder that came
from somebody else names such a function, too, if it was trained with one.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dropkit.errors import DropkitError

_told: set[str] = set()
_tell: list[Callable[[str], None]] = []


def tell_of_foreign_code(tell: Callable[[str], None]) -> None:
    """Let `tell` be told of every module and file of the user's own that is run from now on, each once."""
    _tell[:] = [tell]
    _told.clear()


def names_function(text: str) -> bool:
    """Whether a text has the form of a function's name, with its module.

    >>> names_function("flip,crop"), names_function("my_pictures:jitter"), names_function("code/mine.py:jitter")
    (False, True, True)
    """
    module, colon, function = text.rpartition(":")
    return bool(colon and module and function.isidentifier())


def name_of(option: str, function: Callable[..., Any]) -> str:
    """Return the name under which another process, or a resumed run, finds the function again.

    Raises:
        DropkitError: if it has none, as a lambda or a function inside another one has none.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not name.isidentifier():
        raise DropkitError(
            f"{option} must be a function at the top of a module, which other processes can import, "
            f"but got {function!r}"
        )
    return f"{inspect.getfile(function)}:{name}" if module == "__main__" else f"{module}:{name}"


def import_function(option: str, text: str) -> Callable[..., Any]:
    """Return the function that `module:function` or `path.py:function` names.

    Raises:
        DropkitError: if there is no such module, file or function, or importing it fails.

    Example:
        >>> import_function("augment", "math:floor")(2.5)
        2
    """
    place, _, name = text.rpartition(":")
    if place not in _told:
        _told.add(place)
        for tell in _tell:
            tell(f"running code that is not dropkit's, named by {option} {text!r}")
    module = _from_file(option, Path(place)) if place.endswith(".py") else _from_module(option, place)
    function = getattr(module, name, None)
    if function is None:
        raise DropkitError(f"{option} {text!r}: {place} has no function {name!r}. Check its spelling.")
    if not callable(function):
        raise DropkitError(f"{option} {text!r}: {name!r} is {type(function).__name__}, but a function is needed.")
    return function  # type: ignore[no-any-return]


def _from_module(option: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)  # as `python -m` does: a user's module lies where they stand
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise DropkitError(
            f"{option}: the module {name!r} cannot be imported ({type(error).__name__}: {error}). "
            f"Give a module that Python finds from here, or a file as in path/to/code.py:function."
        ) from error
    finally:
        sys.path.remove(here)


def _from_file(option: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise DropkitError(f"{option}: there is no file {str(path)!r}. Check the path.")
    name = f"dropkit_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DropkitError(f"{option}: {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, so that what it defines can be pickled by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DropkitError(f"{option}: {str(path)!r} fails when run ({type(error).__name__}: {error})") from error
    return module


def place_of(error: Exception) -> str:
    """Return where in the user's own code an error was raised."""
    places = traceback.extract_tb(error.__traceback__)
    return f"{places[-1].filename}, line {places[-1].lineno}" if places else "an unknown place"


def code_of(option: str, text: str | None) -> str | None:
    """Return what stands for the code behind a function's name: a hash of its file. None where no function is named.

    Raises:
        DropkitError: as `import_function` does.
    """
    if text is None or not names_function(text):
        return None
    try:
        source = inspect.getsourcefile(import_function(option, text))
    except TypeError:  # built in
        return None
    return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else None
