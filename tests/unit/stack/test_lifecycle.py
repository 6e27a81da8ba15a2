"""`up` is patient with a server that is still recovering, and refuses in a sentence what cannot work."""
import random
import socket
import threading
import time

import pytest

from weir.connect import postgres
from weir.errors import DiskFull, PortTaken, ServiceFailed, SettingsError, Terminal, Unavailable
from weir.stack import lifecycle, probe, services, settings, starting, supervision, usual
from weir.stack.supervision import ProcessState


@pytest.fixture
def configured(tmp_path):
    return settings.load({"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(tmp_path), "WEIR_PORT_BASE": "30000"})


def test_a_server_that_still_recovers_is_asked_again():
    answers = iter([Unavailable("starting up"), Unavailable("starting up"), None])

    def act():
        answer = next(answers)
        if answer:
            raise answer

    lifecycle.patiently(act)
    assert next(answers, "done") == "done"


def test_what_will_fail_again_fails_at_once():
    calls = []

    def act():
        calls.append(1)
        raise Terminal("wrong")

    with pytest.raises(Terminal):
        lifecycle.patiently(act)
    assert len(calls) == 1


@pytest.mark.parametrize("service", ["kafka", "redis"])
def test_a_taken_port_is_told_with_service_port_and_process(configured, service):
    while True:
        port = random.randrange(26_100, 26_900)  # noqa: S311 - below the range of ports that connections get by themselves
        if not any(probe.port_taken(f"127.0.0.1:{p}") for p in (port - 1, port)):
            break
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        base = port - (3 if service == "kafka" else 6)  # Kafka's second port, which no endpoint names
        specs = [x for x in services.build(settings.load({"WEIR_HOME": str(configured.home), "WEIR_PORT_BASE": str(base)})) if x.name == service]
        with pytest.raises(PortTaken, match=rf"{service}'s port {port} is taken by .*\(pid \d+\).*WEIR_PORT_BASE"):
            lifecycle._check_ports(specs)


def test_too_little_disk_stops_the_start_before_anything_runs(configured, monkeypatch):
    monkeypatch.setattr(lifecycle.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5 << 20})())
    monkeypatch.setattr(supervision, "spawn", lambda *_: pytest.fail("something was started"))
    with pytest.raises(DiskFull, match="5 MB are free on the disk of WEIR_HOME"):
        lifecycle.up(configured, lambda *_: None)


def test_a_folder_that_postgres_own_uid_cannot_pass_is_named_with_the_command_that_opens_it(configured, monkeypatch):
    closed = configured.home / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(postgres, "server_uid", lambda: 65534)
    monkeypatch.setattr(postgres, "impassable", lambda path: closed if closed in path.parents else None)
    with pytest.raises(SettingsError, match=f"chmod o\\+x {closed}"):
        postgres.check_passable(closed / "home")


class Control:
    """A supervisor whose one service is in a given state each time it is asked."""

    def __init__(self, states):
        self.states_told = iter(states)
        self.started = []

    def start(self, name):
        self.started.append(name)

    def states(self):
        return {"redis": next(self.states_told)}


def _bringing(configured, control, reports):
    spec = next(s for s in services.build(configured) if s.name == "redis")
    bringing = lifecycle._Bringing(configured, [spec], lambda *said: reports.append(said))
    bringing.control = control
    return bringing


def test_a_service_that_ends_at_its_start_is_told_with_its_log_and_what_that_says(configured):
    log = services.log_path(configured.home, "redis")
    log.parent.mkdir(parents=True)
    log.write_text("starting\nbad option at line 3\n\nexiting\n")
    reports = []
    states = [ProcessState("redis", "BACKOFF", 0, began, "exited too quickly") for began in range(starting.DEATHS)]
    with pytest.raises(ServiceFailed) as failed:
        _bringing(configured, Control(states), reports).run()
    said = str(failed.value)
    for word in ("redis ended at its start", str(log), "bad option at line 3 | exiting", "./weir logs redis"):
        assert word in said
    assert "\n" not in said
    assert [r[1].split(":")[0] for r in reports] == ["ended at its start, trying again"]


def test_a_service_that_ended_once_and_then_came_is_no_failure(configured, monkeypatch):
    states = [ProcessState("redis", "BACKOFF", 0, 1, ""), ProcessState("redis", "BACKOFF", 0, 1, ""), ProcessState("redis", "RUNNING", 9, 2, "")]
    monkeypatch.setattr(starting.probe, "ready", lambda *_: True)
    bringing = _bringing(configured, Control(states), [])
    bringing.run()
    assert bringing.ready == {"redis"}


def test_an_interrupted_start_ends_what_it_started_but_not_what_ran_before(configured, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    ended = []
    monkeypatch.setattr(lifecycle, "_begin", interrupted)
    monkeypatch.setattr(lifecycle, "_end", lambda s, _report, *, whole: not whole and ended.append(s.home))
    with pytest.raises(KeyboardInterrupt):
        lifecycle.up(configured, lambda *_: None)
    assert ended == [configured.home]
    monkeypatch.setattr(supervision.Control, "alive", lambda _: True)
    monkeypatch.setattr(lifecycle._Bringing, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lifecycle.up(configured, lambda *_: None)
    assert ended == [configured.home]


def test_a_start_tells_how_many_are_ready_and_the_time_to_go_by_the_last_start_or_by_its_rate(configured):
    reports = []
    bringing = _bringing(configured, None, reports)
    bringing.specs, bringing.began = [None] * 12, 0.0
    bringing.starting = {"kafka": None}
    for now, ready in ((6, ""), (12, "abc"), (13, "abc")):
        bringing.told, bringing.ready = 0.0 if now != 13 else 12.0, set(ready)
        bringing._tell_waiting(now)
    assert [what for _, what in reports] == ["0 of 12 ready, 6 s so far; waiting for kafka", "3 of 12 ready, 12 s so far, 15 a minute, about 36 s to go; waiting for kafka"]
    usual.keep(configured.home, "up", 30)
    again = _bringing(configured, None, reports)
    again.specs, again.began, again.told, again.ready, again.starting = [None] * 12, 0.0, 0.0, set("abc"), {"kafka": None}
    again._tell_waiting(12)
    assert reports[-1][1] == "3 of 12 ready, 12 s so far, about 18 s to go (as the last time); waiting for kafka"


def _no_supervisor(monkeypatch, alive):
    for name in ("shutdown", "stop"):
        monkeypatch.setattr(supervision.Control, name, lambda *_: None)
    monkeypatch.setattr(supervision.Control, "alive", lambda _: alive)
    monkeypatch.setattr(supervision.Control, "states", lambda _: {})
    monkeypatch.setattr(supervision, "sweep", lambda _: time.sleep(0.2) or 0)


def test_an_end_tells_its_time_to_go_by_the_last_end_and_one_of_nothing_is_not_kept(configured, monkeypatch):
    monkeypatch.setattr(lifecycle, "TOLD_S", 0.01)
    said = []
    _no_supervisor(monkeypatch, alive=False)
    lifecycle.down(configured, lambda *_: None)
    assert usual.last(configured.home, "down") is None
    _no_supervisor(monkeypatch, alive=True)
    usual.keep(configured.home, "down", 14)
    lifecycle.down(configured, lambda *words: said.append(words[1]))
    assert said[0] == "ending every service (about 14 s)"
    assert said[1] == "ending every service, 0 s so far, about 14 s to go (as the last time)"
    assert said[-1] == "down"
    assert 0.1 < usual.last(configured.home, "down") < 10


@pytest.mark.parametrize("ours", [True, False])
def test_a_whole_start_is_kept_and_one_of_a_stack_that_ran_is_not(configured, monkeypatch, ours):
    monkeypatch.setattr(supervision.Control, "alive", lambda _: not ours)
    monkeypatch.setattr(supervision.Control, "start", lambda *_: None)
    monkeypatch.setattr(lifecycle, "_begin", lambda *_: 0.0)
    monkeypatch.setattr(lifecycle.running, "check", lambda _: None)
    monkeypatch.setattr(lifecycle._Bringing, "run", lambda _: None)
    lifecycle.up(configured, lambda *_: None)
    assert (usual.last(configured.home, "up") is not None) is ours


def test_down_says_when_nothing_ran(configured, monkeypatch):
    said = []
    lifecycle.down(configured, lambda *words: said.append(words))
    assert said == [("stack", "was not running")]


def test_two_starts_of_one_home_take_turns(configured):
    said, order = [], []

    def second():
        with lifecycle.turn(configured.home, lambda *words: said.append(words[1])):
            order.append("second")

    with lifecycle.turn(configured.home, lambda *_: None):
        thread = threading.Thread(target=second)
        thread.start()
        for _ in range(500):
            if said:
                break
            thread.join(0.01)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == ["another ./weir is starting or ending it: waiting"]
