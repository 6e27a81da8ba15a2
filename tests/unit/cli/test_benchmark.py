"""A script of bench/ ends as a command does: one line and an exit code, whatever happens in it."""
import os
import signal
import subprocess
import sys

import pytest

from weir.cli import app


@pytest.fixture
def script(tmp_path):
    """Run a script as `./weir bench` does; return the process."""

    def run(text, *words):
        (tmp_path / "neighbour.py").write_text("NAME = 'neighbour'\n")
        (tmp_path / "one.py").write_text(text)
        command = [sys.executable, "-P", "-m", "weir.cli.benchmark", str(tmp_path / "one.py"), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "WEIR_HOME": str(tmp_path)})

    return run


@pytest.mark.parametrize(("text", "code", "out", "err"), [
    ("import sys, neighbour\nprint(neighbour.NAME, sys.argv[1:], __name__, __file__ == sys.argv[0])", 0, "neighbour ['--json', '3'] __main__ True\n", ""),
    ("from weir.errors import Unavailable\nraise Unavailable('Kafka does not answer', hint='start it')", 1, "", "weir: Kafka does not answer. start it\n"),
    ("raise SystemExit(3)", 3, "", ""),
    ("raise SystemExit('too slow')", 1, "", "too slow\n"),
    ("raise KeyboardInterrupt", 130, "", "weir: stopped\n"),
])
def test_a_script_has_its_arguments_and_neighbours_and_ends_in_one_line_and_an_exit_code(script, text, code, out, err):
    process = script(text, "--json", "3")
    assert (*process.communicate(timeout=60), process.returncode) == (out, err, code)


def test_what_nobody_foresaw_is_one_line(script):
    process = script("1 / 0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("weir: something that nobody foresaw: ZeroDivisionError")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_is_stopped_ends_what_it_started_and_says_so(script, number):
    process = script("import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it\ntry:\n    print('begun', flush=True)\n    time.sleep(60)\nfinally:\n    print('ended', flush=True)")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("ended\n", "weir: stopped\n", 130)


def test_a_process_of_a_scripts_own_finds_its_functions(script):
    text = ("from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n\ndef double(n):\n    return 2 * n\n\n"
            "if __name__ == '__main__':\n    for how in ('fork', 'spawn'):\n        with ProcessPoolExecutor(1, multiprocessing.get_context(how)) as pool:\n            print(pool.submit(double, 4).result())\n")
    process = script(text)
    assert (*process.communicate(timeout=60), process.returncode) == ("8\n8\n", "", 0)


def test_the_command_becomes_the_script_in_its_entry(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    became = []
    monkeypatch.setattr(app.os, "execv", lambda _program, words: became.append(words))
    monkeypatch.setattr(sys, "argv", ["weir", "bench", "startup", "--starts", "5"])
    assert app.outcome.run_app(app.app) == 0
    (words,) = became
    assert words[1:4] == ["-P", "-m", "weir.cli.benchmark"]
    assert words[4].endswith("bench/startup.py")
    assert words[5:] == ["--starts", "5"]
