"""However a command ends, the user gets one line and an exit code."""
import errno
import os
import pty
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from weir.capture import operate
from weir.cli import checks, outcome
from weir.cli.app import app
from weir.contracts import home
from weir.contracts.captured import Captured, State
from weir.errors import Terminal, Unavailable, Undecided, UnknownName
from weir.quality import growth, pipeline
from weir.stack import restarting, supervision, usual

ENTRY = Captured("users", "public.users", next(iter(State)), (), frozenset())


def _end(capsys, raised):
    def command(**_):
        raise raised

    code = outcome.run_app(command)
    said = capsys.readouterr().err.strip()
    assert said.startswith("weir: ")
    assert "\n" not in said
    assert "Traceback" not in said
    return code, said


def test_an_error_of_many_lines_is_told_in_one(capsys):
    code, said = _end(capsys, Terminal("the server said:\n  no\n  and no", hint="ask it"))
    assert (code, said) == (1, "weir: the server said: no and no. ask it")


AWAY = [
    (Unavailable("ClickHouse does not answer: ConnectError('x: y')", hint="./weir logs clickhouse shows why"), "ClickHouse does not answer: "),
    (Undecided("clickhouse has no process", hint="is the stack up? ./weir up starts it"), "clickhouse has no process: "),
]


@pytest.mark.parametrize(("error", "head"), AWAY)
def test_a_service_is_not_blamed_when_the_whole_stack_is_down(monkeypatch, tmp_path, error, head):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    assert outcome.line(error) == f"{head}the stack is down: ./weir up starts it"
    monkeypatch.setattr(supervision.Control, "alive", lambda _: True)
    assert outcome.line(error) == str(error)


def test_what_is_wrong_whatever_runs_is_told_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    for error in (Terminal("redis ended: oom", hint="./weir logs redis shows more"), Unavailable("no jar: 404", hint="set WEIR_MAVEN_URL")):
        assert outcome.line(error) == str(error)


@pytest.mark.parametrize("up", [True, False])
def test_an_external_service_is_told_to_be_external(monkeypatch, tmp_path, up):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEIR_SETTINGS", str(tmp_path / "weir.toml"))
    monkeypatch.setattr(supervision.Control, "alive", lambda _: up)
    (tmp_path / "weir.toml").write_text('[endpoints]\nclickhouse_url = "http://127.0.0.1:1"\n')
    said = outcome.line(AWAY[0][0])
    assert said.startswith("ClickHouse does not answer: it is external")
    assert "correct clickhouse_url" in said


@pytest.mark.parametrize("words", [("table", "list"), ("load", "--events", "1"), ("restart", "kafka"), ("quarantine", "list"), ("reconcile", "--once")])
def test_a_command_on_a_stack_that_is_down_says_so_and_no_driver_adds_a_line(monkeypatch, tmp_path, words):
    env = {**os.environ, "WEIR_HOME": str(tmp_path), "WEIR_PORT_BASE": "26900"}
    done = subprocess.run([sys.executable, "-m", "weir.cli", *words], env=env, capture_output=True, text=True, check=False)
    lines = [text for text in done.stderr.splitlines() if not text.startswith("  ")]
    assert done.returncode in {1, 2}
    assert [text.endswith("the stack is down: ./weir up starts it") for text in lines] == [True]


def test_the_status_of_a_stack_that_is_down_begins_with_that(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    monkeypatch.setenv("WEIR_PORT_BASE", "26900")
    assert CliRunner().invoke(app, ["status"]).output.startswith("the stack is down: ./weir up starts it\n")


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "no room is left"), (errno.EACCES, "not allowed"), (errno.EROFS, "not allowed")])
def test_a_full_disk_and_a_forbidden_file_say_which_file_and_what_to_do(capsys, number, told):
    code, said = _end(capsys, OSError(number, "x", "/some/file"))
    assert code == 1
    assert told in said
    assert "/some/file" in said
    assert "WEIR_HOME" in said


def test_what_nobody_foresaw_leaves_its_traceback_in_a_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    code, said = _end(capsys, KeyError("odd"))
    assert code == 1
    path = tmp_path / "logs" / "unforeseen.log"
    assert str(path) in said
    assert "Traceback" in path.read_text()


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_ends_with_130(capsys, raised):
    assert _end(capsys, raised) == (130, "weir: stopped")


def _run(capsys, *arguments):
    code = outcome.run_app(lambda **given: app(list(arguments), **given))
    return code, capsys.readouterr().err.strip()


def test_a_wrong_command_and_a_missing_argument_are_one_line_that_leads_to_the_help(capsys):
    assert _run(capsys, "qarantine") == (2, "weir: No such command 'qarantine'. Did you mean 'quarantine'? ./weir --help shows how, with examples")
    code, said = _run(capsys, "logs")
    assert code == 2
    assert said.endswith("./weir logs --help shows how, with examples")


def test_an_unknown_service_gets_the_nearest_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    for command in ("logs", "restart"):
        code, said = _run(capsys, command, "kafak")
        assert code == 1
        assert "Did you mean kafka?" in said
        assert "\n" not in said
    assert "Did you mean" not in str(UnknownName.of("service", "zzz", ["kafka"]))


def test_an_unknown_experiment_and_a_stack_that_is_down_are_unknown_and_no_no(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    monkeypatch.setattr("os.environ", dict(os.environ))
    code, said = _run(capsys, "chaos", "run", "kill-kafka-brokr")
    assert code == 2
    assert "Did you mean kill-kafka-broker?" in said
    code, said = _run(capsys, "chaos", "run", "kill-kafka-broker")
    assert (code, said) == (2, "weir: the stack is down, so no experiment can be run. ./weir up starts it")
    assert not (tmp_path / "evidence").exists()


def test_a_folder_of_tests_that_is_none_is_refused_with_the_folders_there_are(capsys):
    code, said = _run(capsys, "test", "--only", "uint")
    assert code == 1
    assert said == "weir: no folder of tests 'uint'. Did you mean unit? There are unit, contract, house, docs, oracle, stack"
    for other in ("unit/none", "../src", "unit/../../src", "/"):
        with pytest.raises(UnknownName):
            checks.chosen(checks.Path(__file__).resolve().parents[3], other)


@pytest.mark.parametrize("name", ["unit", "unit/ingest", "stack/"])
def test_a_folder_of_tests_is_run_alone(name):
    assert checks.chosen(checks.Path(__file__).resolve().parents[3], name) == [name]


def test_a_broken_settings_file_is_told_and_neither_down_nor_logs_needs_it(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEIR_SETTINGS", str(tmp_path / "weir.toml"))
    (tmp_path / "weir.toml").write_text("[endpoints\n")
    for words, wanted in ((["down"], "was not running"), (["logs", "kafka"], "weir.toml is not valid TOML")):
        code, said = _run(capsys, *words)
        assert code == 0
        assert wanted in said
        assert "weir: going on without the settings file: " in said
    assert _run(capsys, "status")[0] == 1
    (tmp_path / "home" / "blocked").touch()
    monkeypatch.setenv("WEIR_HOME", str(tmp_path / "home" / "blocked"))
    code, said = _run(capsys, "down")
    assert code == 1
    assert "cannot be written" in said


def test_clean_deletes_nothing_when_there_is_nobody_to_ask(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    (tmp_path / "kept").touch()
    assert isinstance(CliRunner().invoke(app, ["clean"]).exception, Terminal)
    assert (tmp_path / "kept").exists()


def test_clean_deletes_what_weir_made_and_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    for name in (*home.DATA, "jars", "env-0123456789ab", "postgres.set-aside-1700000000", "env-thesis", "photos"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "thesis.txt").touch()
    done = CliRunner().invoke(app, ["clean", "--yes"])
    assert done.exit_code == 0
    assert {p.name for p in tmp_path.iterdir()} == {"jars", "env-0123456789ab", "env-thesis", "photos", "thesis.txt"}
    assert "what Weir did not make stays: env-thesis, photos, thesis.txt" in done.output


def _commands(group, name="./weir"):
    for sub, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {sub}")
        else:
            yield f"{name} {sub}", command


@pytest.mark.parametrize(("name", "command"), list(_commands(typer.main.get_command(app))))
def test_every_commands_help_teaches_by_an_example(name, command):
    assert command.help
    assert name in (command.epilog or "")


def test_a_quoted_log_line_with_brackets_is_printed_as_it_is(capsys):
    outcome.report("redis", "ended at its start: [/x] [Errno 2] no such file")
    assert "[/x] [Errno 2] no such file" in capsys.readouterr().err


def test_a_verdict_that_cannot_be_told_is_no_fault_that_was_found(capsys):
    command = typer.Typer()

    @command.command()
    def judge():
        with outcome.verdict():
            raise Unavailable("Kafka does not answer")

    assert outcome.run_app(lambda **given: command([], **given)) == 2
    assert "Kafka does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("load", "--events", "0"), ("load", "--bad", "2"), ("load", "--late", "-1"), ("logs", "kafka", "--lines", "-3")])
def test_a_number_out_of_range_is_used_wrongly(arguments, capsys):
    assert outcome.run_app(lambda **given: app(list(arguments), **given)) == 2
    assert "Input should be" in capsys.readouterr().err


def test_what_was_done_before_is_said_to_go_on_with_its_time_to_go(capsys, tmp_path):
    usual.keep(tmp_path, "table pause", 45)
    with outcome.usually(tmp_path, "table pause", "pausing users", every_s=0.01):
        time.sleep(0.05)
    assert "  pausing users, 0 s so far, about 45 s to go (as the last time)" in capsys.readouterr().err
    assert usual.last(tmp_path, "table pause") < 45


@pytest.mark.parametrize(("words", "module", "act", "phase"), [
    (("table", "pause", "users"), operate, "pause", "table pause"), (("table", "resume", "users"), operate, "resume", "table resume"),
    (("table", "remove", "users"), operate, "remove", "table remove"), (("restart", "redis"), restarting, "restart", "restart redis"),
])
def test_commands_that_wait_for_a_service_keep_how_long_that_took(monkeypatch, tmp_path, words, module, act, phase):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    monkeypatch.setattr(module, act, lambda *_, **__: ENTRY)
    monkeypatch.setattr(pipeline, "ask_slot", lambda _: None)
    monkeypatch.setattr(growth, "now", lambda *_: None)
    assert CliRunner().invoke(app, list(words)).exit_code == 0
    assert usual.last(tmp_path, phase) is not None


def test_what_tells_nothing_itself_is_said_to_go_on(capsys):
    with outcome.still("comparing", every_s=0.01):
        time.sleep(0.05)
    with outcome.still("quick"):
        pass
    said = capsys.readouterr().err
    assert "  comparing, 0 s so far" in said
    assert "quick" not in said


CLOSED = """
import fcntl, signal, sys, termios, time
from pathlib import Path
from weir.cli import outcome
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "ignored" else signal.SIG_DFL)  # whatever the tests were started with
outcome.end_politely()
try:
    print("up", flush=True)
    time.sleep(30 if sys.argv[2] == "closed" else 2)
except KeyboardInterrupt:
    print("ending", flush=True)
    outcome.err.print("ended")
    Path(sys.argv[1]).write_text("ended")
"""


@pytest.mark.parametrize("how", ["closed", "ignored"])
def test_a_terminal_that_is_closed_ends_a_command_as_ctrl_c_does_unless_that_is_ignored_as_under_nohup(tmp_path, how):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CLOSED, str(tmp_path / "ended"), how], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    told = b""
    while b"\n" not in told:  # the whole line: its write is over
        told += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "ended").exists() is (how == "closed")


def test_helps_are_told_in_whole_paragraphs(capsys):
    made, inner = typer.Typer(), typer.Typer()

    @inner.command("do")
    def do():
        """Do it.

        This sentence begins on one line
        and ends on another.

        And this is a paragraph of its own.
        """

    inner.command("else")(lambda: None)
    made.add_typer(inner, name="group")
    outcome.fold_helps(made)
    outcome.run_app(lambda **how: made(["group", "do", "--help"], **how))
    said = capsys.readouterr().out
    assert "This sentence begins on one line and ends on another." in said
    assert "another. And" not in said


CLEARING = """
import fcntl, os, signal, sys, termios, time
from pathlib import Path
from weir.stack import lifecycle
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with lifecycle.undisturbed():
    print("clearing", flush=True)
    time.sleep(3)
    os.write(1, b"it goes on")
    print("and on", flush=True)
    Path(sys.argv[1]).write_text("cleared")
"""


def test_a_terminal_that_is_closed_does_not_stop_the_clearing_away(tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", CLEARING, str(tmp_path / "cleared")], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    told = b""
    while b"\n" not in told:
        told += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "cleared").read_text() == "cleared"
