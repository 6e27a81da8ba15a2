"""The real supervisor: a start that did not last meets a pause, and one that answers is ready before it has lasted."""
import os
import sys
import time

import pytest
from tests.contract.gateway_server import free_port

from weir.connect.command import Command
from weir.stack import lifecycle, settings
from weir.stack.services import ServiceSpec
from weir.stack.supervision import Control, configuration, spawn


@pytest.fixture
def supervised(tmp_path):
    """Start a supervisor over one service, given as a command; it ends with the test."""
    control = Control(tmp_path)

    def start(name, *argv, port=1):
        spec = ServiceSpec(name, Command(argv, {"PATH": os.environ["PATH"]}, tmp_path, None), (), f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}")
        spawn(tmp_path, configuration([spec], {}, tmp_path), {"PATH": os.environ["PATH"]})
        return spec, control

    yield start
    control.shutdown()
    deadline = time.monotonic() + 30
    while control.alive() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_service_that_dies_after_two_seconds_waits_before_its_next_start_and_is_no_running_one(supervised):
    _, control = supervised("dies", "/bin/sh", "-c", "sleep 2; exit 1")
    control.start("dies")
    seen, deadline = set(), time.monotonic() + 30
    while "BACKOFF" not in seen and time.monotonic() < deadline:
        seen.add(control.states()["dies"].state)
        time.sleep(0.05)
    assert "BACKOFF" in seen
    assert "RUNNING" not in seen


def test_a_service_that_answers_is_ready_while_its_start_has_yet_to_last(supervised, tmp_path):
    port = free_port()
    spec, control = supervised("answers", sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", port=port)
    configured = settings.load({"WEIR_HOME": str(tmp_path), "WEIR_PORT_BASE": "30000"})
    lifecycle._Bringing(configured, [spec], lambda *_: None).run()
    assert control.states()["answers"].state == "STARTING"
