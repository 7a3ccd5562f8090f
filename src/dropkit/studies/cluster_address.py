"""Finding a Ray cluster: never starting one, and never waiting long for one that is not there."""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dropkit.errors import DropkitError, missing_extra

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:]+):(?P<port>\d{1,5})")
ANSWER_SECONDS = 5.0
# How HTTP/2, and with it gRPC, begins (RFC 9113, 3.4): these octets and a frame of settings, from both sides.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEADER = 9
_SETTINGS = 4

_opened: list[str] = []  # the address to which this process is connected, where dropkit made the connection


def connect(address: str) -> Any:
    """Connect this process to a running cluster, unless it is already; return the module `ray`.

    The connection stays until the process ends, so that one study after another uses it. A connection that the caller
    made with `ray.init` is used as it is.

    Args:
        address: "auto" (a cluster on this machine, or the one that RAY_ADDRESS names), "HOST:PORT" or
            "ray://HOST:PORT".

    Raises:
        DropkitError: if Ray is not installed, the address is none, or no cluster answers there.
    """
    try:
        import ray
    except ImportError:
        raise missing_extra("--ray", "ray") from None
    place = _resolved(address)
    if ray.is_initialized():
        if not _opened or _opened == [place]:
            return ray
        ray.shutdown()
    _require_answer(place, address)
    logging.getLogger("ray").setLevel(logging.ERROR)  # also what Ray says before it configures its logging
    # A study that ends with a mistake in one training does not ask what became of the others.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        with _own_sigterm():
            ray.init(address=place, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # other versions of Ray or Python there, or a server that is not Ray's
        raise _no_cluster(address, str(error).partition("\n")[0]) from None
    _opened[:] = [place]
    return ray


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does in this process: Ray would have it end the process with code 1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def is_there(address: str) -> bool:
    """Return whether the head of the cluster to which this process is connected answers.

    Args:
        address: as it was given to `connect`.
    """
    try:
        _require_answer(_opened[0] if _opened else _resolved(address), address)
    except DropkitError:
        return False
    return True


def _resolved(address: str) -> str:
    """Return where the cluster is, as HOST:PORT or ray://HOST:PORT.

    Ray itself starts a cluster where it is told none, or "local"; neither gets past here.
    """
    place = address
    if address == "auto":
        place = os.environ.get("RAY_ADDRESS", "auto")
    if place in ("", "auto"):
        place = _found_here(address)
    match = _ADDRESS.fullmatch(place)
    if match is None or int(match["port"]) > 65535:
        told = f"{place!r} (from RAY_ADDRESS)" if address == "auto" else repr(place)
        raise DropkitError(
            f"{told} is not the address of a Ray cluster: allowed are auto (a cluster on this machine), HOST:PORT and "
            f"ray://HOST:PORT, as `ray start --head` prints them"
        )
    return place


def _found_here(address: str) -> str:
    # The one private name of Ray's: of a cluster that was killed its file still tells, and ray.init("auto") then waits
    # for it for minutes.
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except ConnectionError:
        raise _no_cluster(address, "no Ray process runs on this machine") from None


def _require_answer(place: str, address: str) -> None:
    """Raise unless a gRPC server answers: where none does ray.init waits for minutes, and may end the process."""
    match = _ADDRESS.fullmatch(place)
    assert match is not None  # _resolved saw to it
    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            connection.sendall(_PREFACE)
            answer = connection.recv(_FRAME_HEADER)
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error) or type(error).__name__) from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise _no_cluster(address, "what answers there is not Ray")


def _no_cluster(address: str, reason: str) -> DropkitError:
    return DropkitError(
        f"cannot reach a Ray cluster at {address!r} ({reason}): start one with `ray start --head`, and give the "
        f"address that it prints, or auto on that machine"
    )
