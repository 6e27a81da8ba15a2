"""The real supervisor: a service that dies some seconds after its start is started again after growing pauses, not at once for ever."""
import os
import time

from weir.connect.command import Command
from weir.stack.services import ServiceSpec
from weir.stack.supervision import Control, configuration, spawn


def test_a_service_that_dies_after_two_seconds_waits_before_its_next_start_and_is_no_running_one(tmp_path):
    home = tmp_path
    command = Command(("/bin/sh", "-c", "sleep 2; exit 1"), {"PATH": os.environ["PATH"]}, home, None)
    spawn(home, configuration([ServiceSpec("dies", command, (), "http://127.0.0.1:1", "127.0.0.1:1")], {}, home), {"PATH": os.environ["PATH"]})
    control = Control(home)
    try:
        control.start("dies")
        seen, deadline = set(), time.monotonic() + 30
        while "BACKOFF" not in seen and time.monotonic() < deadline:
            seen.add(control.states()["dies"].state)
            time.sleep(0.05)
        assert "BACKOFF" in seen
        assert "RUNNING" not in seen
    finally:
        control.shutdown()
        deadline = time.monotonic() + 30
        while control.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
