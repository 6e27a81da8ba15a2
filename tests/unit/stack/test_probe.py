"""A service is ready when it answers in its own protocol; that its port accepts says nothing."""
import contextlib
import socket
import struct
import threading

import pytest

from weir.stack import probe, services, settings

SCHEMES = ["http", "kafka", "postgresql", "redis"]


@contextlib.contextmanager
def _listening(answer=None):
    """A port whose kernel accepts; a process that reads and answers only with `answer` (None: one that is stopped)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        if answer is not None:
            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection = listener.accept()[0]
                        with connection:
                            connection.recv(4096)
                            connection.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_port_that_listens_and_never_answers_is_not_ready(scheme):
    with _listening() as at:
        assert not probe.ready(f"{scheme}://{at}/x" if scheme == "http" else f"{scheme}://{at}", 0.2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_port_where_nobody_listens_and_one_that_hangs_up_are_not_ready(scheme):
    with _listening(b"") as at:
        assert not probe.ready(f"{scheme}://{at}", 5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not probe.ready(f"{scheme}://127.0.0.1:{unused.getsockname()[1]}", 5)


def _refusal(code):
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0Mthe database system is starting up\0\0"
    return b"E" + struct.pack(">i", 4 + len(fields)) + fields


@pytest.mark.parametrize(
    ("scheme", "answer", "good"),
    [
        ("postgresql", b"R" + struct.pack(">ii", 8, 10), True),
        ("postgresql", _refusal(b"57P03"), False),
        ("postgresql", _refusal(b"28000"), True),
        ("postgresql", b"HTTP/1.1 400 Bad Request", False),
        ("kafka", struct.pack(">iihi", 10, 1, 0, 0), True),
        ("kafka", struct.pack(">iihi", 10, 1, 41, 0), False),
        ("kafka", struct.pack(">iihi", 10, 2, 0, 0), False),
        ("kafka", b"HTTP", False),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", False),
        ("http", b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", False),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_what_is_answered_decides(scheme, answer, good):
    with _listening(answer) as at:
        assert probe.ready(f"{scheme}://{at}", 5) is good


def test_every_service_is_asked_by_a_protocol_that_there_is_and_no_probe_holds_a_password(tmp_path):
    specs = services.build(settings.load({"WEIR_HOME": str(tmp_path), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"}))
    assert {s.name: s.probe.split(":")[0] for s in specs if not s.probe.startswith("http")} == {"postgres": "postgresql", "kafka": "kafka", "redis": "redis"}
    assert {s.probe.split(":")[0] for s in specs} <= set(probe._PROBES)
    assert (tmp_path / "secrets" / "postgres").read_text() not in "".join(s.probe for s in specs)
