"""A uid without a name: what initdb is run through, and when it is refused."""
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from weir.connect import nameless, postgres
from weir.errors import SettingsError


@pytest.fixture
def unnamed(monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def _namespaces(monkeypatch, *, allowed):
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0 if allowed else 1)

    monkeypatch.setattr(nameless.subprocess, "run", run)
    return asked


def test_a_uid_that_has_a_name_needs_nothing_and_tries_nothing(monkeypatch):
    asked = _namespaces(monkeypatch, allowed=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: object())
    assert (nameless.through(), nameless.refusal(), asked) == ((), "", [])
    postgres.check_user()


@pytest.mark.usefixtures("unnamed")
def test_a_uid_without_a_name_goes_through_a_namespace_that_was_tried_first(monkeypatch):
    asked = _namespaces(monkeypatch, allowed=True)
    words = nameless.through()
    assert (words[0], Path(words[-1]).name) == (sys.executable, "nameless.py")
    assert nameless.refusal() == ""
    assert asked == [[*words, "true"]]
    postgres.check_user()


@pytest.mark.usefixtures("unnamed")
def test_where_no_namespace_is_allowed_the_refusal_names_the_uid_and_what_to_do(monkeypatch):
    _namespaces(monkeypatch, allowed=False)
    with pytest.raises(SettingsError, match=f"uid {os.geteuid()}, which has no entry") as refused:
        postgres.check_user()
    assert "/etc/passwd" in refused.value.hint


def test_a_uid_without_a_name_is_given_name_and_home_where_none_are_set():
    assert nameless.environment(45678, {"HOME": ""}, "/h") == {"LOGNAME": "uid-45678", "USER": "uid-45678", "HOME": "/h"}
    assert nameless.environment(45678, {"HOME": "/mine", "USER": "me", "LOGNAME": "me"}, "/h") == {}


def test_what_runs_in_the_namespace_is_neither_root_nor_the_owner_of_others_files():
    """Tried for real where the system allows it; a program that cannot enter ends with its reason and runs nothing."""
    script = "import os, pwd; print(pwd.getpwuid(os.geteuid()).pw_name, os.geteuid())"
    done = subprocess.run([sys.executable, "-I", nameless.__file__, sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        assert done.stdout == ""
        assert "unshare" in done.stderr or "uid_map" in done.stderr or "setgroups" in done.stderr
    else:
        name, uid = done.stdout.split()
        assert name
        assert int(uid) not in {0, nameless.OVERFLOW_UID}
