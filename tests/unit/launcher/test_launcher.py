"""The launcher's refusals, without a network: each one line that says what, to what, and what to do."""
import importlib.machinery
import importlib.util
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def launcher():
    loader = importlib.machinery.SourceFileLoader("weir_launcher", str(ROOT / "weir"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("weir_launcher", loader))
    loader.exec_module(module)
    return module


def _refusal(capsys, act):
    with pytest.raises(SystemExit) as ended:
        act()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert said.startswith("weir: ")
    assert "\n" not in said
    return said


def test_another_system_or_machine_is_refused_by_name(launcher, capsys, monkeypatch):
    monkeypatch.setattr(launcher.platform, "machine", lambda: "aarch64")
    assert "aarch64" in _refusal(capsys, launcher.check_platform)
    monkeypatch.setattr(launcher.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(launcher.sys, "platform", "darwin")
    assert "darwin" in _refusal(capsys, launcher.check_platform)


def test_a_python_without_linux_own_modules_is_refused_in_one_line():
    """Windows' Python has no fcntl, pwd, resource or termios: the launcher must get as far as its refusal without them."""
    script = (
        "import runpy, sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'resource', 'termios'): sys.modules[name] = None\n"
        f"sys.platform, sys.argv = 'win32', [{str(ROOT / 'weir')!r}, 'demo']\n"
        f"runpy.run_path({str(ROOT / 'weir')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("weir: runs on Linux x86-64 only; this is win32")
    assert done.stderr.count("\n") == 1


def test_musl_and_an_old_glibc_are_refused_by_name(launcher, capsys, monkeypatch):
    def unknown(_):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(launcher.os, "confstr", unknown)
    monkeypatch.setattr(launcher.Path, "glob", lambda _self, _pattern: iter([Path("/lib/ld-musl-x86_64.so.1")]))
    assert "this machine has musl" in _refusal(capsys, launcher.check_platform)
    monkeypatch.setattr(launcher.os, "confstr", lambda _: "glibc 2.17")
    assert "this machine has glibc 2.17" in _refusal(capsys, launcher.check_platform)


def test_an_unsupported_python_hands_over_to_a_supported_one_or_says_how_to_get_it(launcher, capsys, monkeypatch):
    monkeypatch.setattr(launcher.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(launcher.shutil, "which", lambda _: None)
    assert "apt install python3.11" in _refusal(capsys, launcher.check_platform)
    became = []
    monkeypatch.setattr(launcher.shutil, "which", lambda name: "/x/python3.12" if name == "python3.12" else None)
    monkeypatch.setattr(launcher.os, "execv", lambda program, argv: (became.append(program), sys.exit(0)))
    with pytest.raises(SystemExit):
        launcher.check_platform()
    assert became == ["/x/python3.12"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("error: Failed to fetch: `x`\n  Caused by: tcp connect error: Connection refused (os error 111)", "the first run needs a network"),
        ("WARNING: Retrying: NewConnectionError\nERROR: No matching distribution found for uv==1", "the first run needs a network"),
        ("error: No space left on device (os error 28)", "the disk is full"),
        ("error: Hash mismatch for `clickhouse-connect==1`", "locked hash"),
        ("error: something else\n", "something else: run again, and if it stays so, remove /h/env-0123456789ab"),
        ("", "no output"),
    ],
)
def test_what_an_installer_printed_becomes_one_line_with_what_to_do(launcher, said, told):
    line = launcher.explain("installing the locked packages", said, Path("/h/env-0123456789ab"))
    assert told in line
    assert "\n" not in line


def test_too_little_disk_for_the_environment_is_refused_before_anything_is_made(launcher, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(launcher.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100 << 20})())
    monkeypatch.setattr(launcher, "step", lambda *_: pytest.fail("began to install"))
    assert "100 MB are free" in _refusal(capsys, lambda: launcher.make(tmp_path / "env-x"))


def test_a_home_that_is_a_file_or_that_nobody_can_pass_is_refused_by_its_path(launcher, capsys, monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert str(file) in _refusal(capsys, lambda: launcher.environment(file / "home"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(launcher.os, "geteuid", lambda: 0)
    monkeypatch.setattr(launcher, "impassable", lambda path: closed if closed in path.parents else None)
    assert f"chmod o+x {closed}" in _refusal(capsys, lambda: launcher.environment(closed / "home"))


def test_the_first_folder_that_others_may_not_pass_is_found(launcher, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for path in [*inner.parents, inner]:
        if tmp_path in path.parents:
            path.chmod(0o755)
    (tmp_path / "a").chmod(0o700)
    assert launcher.impassable(inner) in {tmp_path / "a", *tmp_path.parents, tmp_path}
    (tmp_path / "a").chmod(0o755)
    assert launcher.impassable(inner) not in {tmp_path / "a", inner}


def test_a_step_tells_rate_and_time_to_go(launcher):
    assert launcher.line_of_progress(500_000_000, 1_500_000_000, 10) == "500 of about 1,500 MB · 50.0 MB/s · 20 s to go"
    assert "waiting for the registry" in launcher.line_of_progress(0, 1_500_000_000, 10)


def test_an_interrupted_step_takes_its_child_with_it(tmp_path):
    script = (
        "import importlib.machinery, importlib.util, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where the suite runs in the background it is ignored, and inherited so
        f"loader = importlib.machinery.SourceFileLoader('w', {str(ROOT / 'weir')!r})\n"
        "m = importlib.util.module_from_spec(importlib.util.spec_from_loader('w', loader)); loader.exec_module(m)\n"
        f"m.step('waiting', [sys.executable, '-c', \"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)\"], 'x')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int((tmp_path / "pid").read_text())
    process.send_signal(2)
    process.communicate(timeout=20)
    assert process.returncode != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_an_interrupt_between_fork_and_knowing_the_child_takes_the_child_too(launcher, monkeypatch):
    started = []
    real = subprocess.Popen

    def interrupted_meanwhile(*arguments, **named):
        started.append(real(*arguments, **named))
        os.kill(os.getpid(), 2)
        time.sleep(0)  # the signal's handler runs here
        return started[0]

    monkeypatch.setattr(launcher.subprocess, "Popen", interrupted_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        launcher.step("waiting", [sys.executable, "-c", "import time; time.sleep(60)"], "x")
    assert started[0].poll() is not None


def _environments(base, *names):
    for age, name in enumerate(names):
        (base / name / "bin").mkdir(parents=True)
        os.utime(base / name, (1_000_000 - age, 1_000_000 - age))
    return [base / name for name in names]


def test_of_other_environments_only_those_go_that_are_ours_idle_and_not_the_newest(launcher, tmp_path):
    target, newest, running, idle = _environments(tmp_path, "env-aaaaaaaaaaaa", "env-bbbbbbbbbbbb", "env-cccccccccccc", "env-dddddddddddd")
    _environments(tmp_path, "env-thesis", "env-dddddddddddd-kept", "environment")
    (tmp_path / "env-eeeeeeeeeeee").symlink_to(tmp_path / "env-thesis")
    (running / "bin" / "python").symlink_to(sys.executable)
    with subprocess.Popen([str(running / "bin" / "python"), "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert launcher.outdated(tmp_path, target) == [idle]
        process.stdin.close()
    assert launcher.outdated(tmp_path, target) == [running, idle]
    assert newest.exists()


def test_a_mapped_file_of_another_environment_keeps_it(launcher, tmp_path):
    import mmap

    (folder,) = _environments(tmp_path, "env-aaaaaaaaaaaa")
    (folder / "library.so").write_bytes(b"x" * 4096)
    assert not launcher.used(folder)
    with (folder / "library.so").open("r+b") as file, mmap.mmap(file.fileno(), 4096):
        assert launcher.used(folder)


def test_a_uid_without_a_name_is_refused_before_anything_is_installed(launcher, capsys, monkeypatch, tmp_path):
    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(launcher.ours("weir.connect.nameless").subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    monkeypatch.setattr(launcher, "make", lambda _: pytest.fail("began to install"))
    said = _refusal(capsys, lambda: launcher.environment(tmp_path / "home"))
    assert f"uid {os.geteuid()}" in said
    assert "/etc/passwd" in said


def test_python_is_compiled_once_beside_the_environment_whatever_the_caller_sets(launcher, tmp_path):
    """An image that sets PYTHONDONTWRITEBYTECODE would have each of a score of processes compile all that it imports."""
    venv = tmp_path / f"env-{launcher.digest()}"
    (venv / "bin").mkdir(parents=True)
    (venv / ".complete").touch()
    (venv / "bin" / "python").write_text("#!/bin/sh\nenv\n")
    (venv / "bin" / "python").chmod(0o755)
    env = os.environ | {"WEIR_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": ""}
    said = subprocess.run([sys.executable, str(ROOT / "weir"), "status"], env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"PYTHONPYCACHEPREFIX={venv / 'pycache'}" in said
    assert not any(line.startswith("PYTHONDONTWRITEBYTECODE") for line in said)
