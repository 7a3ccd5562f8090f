"""Finding a cluster: an answer within seconds, and none is ever started."""

import signal
import socket
import sys
import threading

import pytest

from dropkit.errors import DropkitError
from dropkit.studies import cluster_address
from dropkit.studies.cluster_address import _own_sigterm, connect

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")


@pytest.fixture(autouse=True)
def never_started(monkeypatch):
    """Nothing here may get as far as Ray."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail(f"ray.init was called with {options}"))


@pytest.fixture
def server():
    """Listen, and answer each connection with some bytes; return the port."""
    sockets = []

    def listen(answer):
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def serve():
            connection = listening.accept()[0]
            sockets.append(connection)
            if answer is not None:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return listening.getsockname()[1]

    yield listen
    for each in sockets:
        each.close()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DropkitError, match=r"--ray needs packages .* pip install 'dropkit\[ray\]'"):
        connect("auto")


@pytest.mark.parametrize(
    "address", ["local", "nowhere", "http://127.0.0.1:6379", "127.0.0.1:65536", "127.0.0.1", "a b:1", "ray://x"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(DropkitError, match=f"'{address}' is not the address of a Ray cluster: allowed are auto"):
        connect(address)


def test_nothing_is_started_where_the_environment_asks_for_it(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(DropkitError, match=r"'local' \(from RAY_ADDRESS\) is not the address"):
        connect("auto")


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_a_port_at_which_nothing_listens(kind):
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"{kind}127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(
            DropkitError, match=rf"Ray cluster at '{address}' \(Connection refused\): .*ray start --head"
        ):
            connect(address)


def test_auto_where_no_cluster_runs_and_where_one_was_killed(monkeypatch):
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(DropkitError, match="at 'auto' .no Ray process runs on this machine.: start one with"):
        connect("auto")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        left = f"localhost:{bound.getsockname()[1]}"
        monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: left)
        with pytest.raises(DropkitError, match=r"at 'auto' \(Connection refused\)"):
            connect("auto")


def test_a_server_that_is_not_rays(server, monkeypatch):
    with pytest.raises(DropkitError, match="what answers there is not Ray"):
        connect(f"127.0.0.1:{server(b'HTTP/1.1 400 Bad Request')}")
    monkeypatch.setattr(cluster_address, "ANSWER_SECONDS", 0.05)
    with pytest.raises(DropkitError, match="timed out"):
        connect(f"127.0.0.1:{server(None)}")


def test_what_ray_says_of_a_cluster_is_told(server, monkeypatch):
    def refuse(**options):
        assert options["address"] == address
        raise RuntimeError("Version mismatch: Ray 2.0.0 there\nand more")

    monkeypatch.setattr(ray, "init", refuse)
    address = f"127.0.0.1:{server(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))}"
    with pytest.raises(DropkitError, match="Version mismatch: Ray 2.0.0 there.: start one"):
        connect(address)


def test_rays_own_handler_of_sigterm_does_not_replace_ours():
    """Ray's ends the process with code 1, as it stands."""

    def ours(number, frame):
        pass

    former = signal.signal(signal.SIGTERM, ours)
    try:
        with _own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, former)
