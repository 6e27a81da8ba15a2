"""The supervisor's configuration and the watcher's decisions, without a process."""
import configparser
from dataclasses import replace
from pathlib import Path

from weir.connect.command import Command
from weir.stack.services import ServiceSpec
from weir.stack.states import ServiceState
from weir.stack.supervision import LASTING_S, ProcessState, configuration, lasting_s, socket_path
from weir.stack.watch import MISSES, Watcher, judge


def _spec(name="kafka", uid=None):
    command = Command(("/bin/run it", "--a=50%", 'say "x"'), {"A": 'b"c%', "PATH": "/bin"}, Path("/"), uid)
    return ServiceSpec(name, command, (), "http://127.0.0.1:1", "127.0.0.1:1", "INT", 7)


def test_every_service_has_a_bounded_rotated_log_and_its_own_stop_signal(tmp_path):
    parser = configparser.RawConfigParser()
    parser.read_string(configuration([_spec()], {"watch": _spec("watch").command}, tmp_path))
    section = parser["program:kafka"]
    assert section["stopsignal"] == "INT"
    assert section["stopwaitsecs"] == "7"
    assert int(section["stdout_logfile_maxbytes"]) > 0
    assert section["autorestart"] == "true"
    assert "program:watch" in parser


def test_percent_signs_and_quotes_in_commands_and_values_survive_supervisors_own_syntax(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "run").mkdir()
    from supervisor.options import ServerOptions

    conf = tmp_path / "s.conf"
    conf.write_text(configuration([_spec()], {"watch": _spec("watch").command}, tmp_path))
    options = ServerOptions()
    options.realize(["-c", str(conf)])
    program = next(c for group in options.process_group_configs for c in group.process_configs if c.name == "kafka")
    assert program.environment["A"] == 'b"c%'
    assert "--a=50%" in program.command


def test_a_start_counts_only_when_it_lasted_and_readiness_does_not_wait_for_that(tmp_path):
    parser = configparser.RawConfigParser()
    parser.read_string(configuration([_spec(), replace(_spec("api"), slow_s=150)], {"watch": _spec("watch").command}, tmp_path))
    seconds = {name: int(parser[f"program:{name}"]["startsecs"]) for name in ("kafka", "api", "watch")}
    assert seconds == {"kafka": lasting_s(60), "api": lasting_s(150), "watch": LASTING_S}
    assert min(seconds.values()) >= 10  # a service is still importing at 2 s: dying then must meet the pause
    assert judge(ProcessState("x", "STARTING", 1, 0, ""), answers=True) == "ready"
    assert judge(ProcessState("x", "STARTING", 1, 0, ""), answers=False) == "starting"


def test_a_home_too_deep_for_a_socket_gets_a_short_socket_path():
    assert len(str(socket_path(Path("/" + "d" * 150)))) < 100
    assert socket_path(Path("/h")) == Path("/h/run/supervisor.sock")


def test_the_judged_state_follows_process_and_probe():
    def state(word):
        return ProcessState("x", word, 1, 0, "")

    assert judge(None, answers=True) == "stopped"
    assert judge(state("RUNNING"), answers=True) == "ready"
    assert judge(state("RUNNING"), answers=False) == "unhealthy"
    assert judge(state("BACKOFF"), answers=False) == "starting"
    assert judge(state("FATAL"), answers=False) == "failed"


def test_a_service_that_was_never_ready_is_not_restarted_for_being_slow():
    watcher = Watcher()
    rows = [ServiceState("api", "unhealthy", 1, "")]
    assert [watcher.due(rows, i) for i in range(MISSES * 2)] == [[]] * (MISSES * 2)


def test_a_ready_service_that_falls_silent_is_restarted_once_after_the_stated_misses():
    watcher = Watcher()
    watcher.due([ServiceState("api", "ready", 1, "")], 0)
    actions = [watcher.due([ServiceState("api", "unhealthy", 1, "")], i) for i in range(MISSES)]
    assert actions[:-1] == [[]] * (MISSES - 1)
    assert actions[-1] == [("api", "restart")]


def test_a_process_that_follows_a_killed_one_may_start_slowly_too():
    watcher = Watcher()
    watcher.due([ServiceState("api", "ready", 1, "")], 0)
    rows = [ServiceState("api", "unhealthy", 2, "")]
    assert [watcher.due(rows, i) for i in range(MISSES * 2)] == [[]] * (MISSES * 2)


def test_a_failed_service_is_tried_again_but_not_in_every_round():
    watcher = Watcher()
    rows = [ServiceState("api", "failed", 0, "")]
    assert watcher.due(rows, 100.0) == [("api", "start")]
    assert watcher.due(rows, 102.0) == []
    assert watcher.due(rows, 131.0) == [("api", "start")]
