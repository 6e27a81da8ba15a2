"""A load tells how far it is while it runs."""
from types import SimpleNamespace

import pytest

from weir.cli import load as command


def test_a_line_has_how_many_how_fast_and_how_long():
    assert command.line(250_000, 1_000_000, 2.5) == "  250,000 of 1,000,000 events · 100,000/s · 8 s to go"
    assert "waiting for the first" in command.line(0, 1_000_000, 2.5)


def _slow(bootstrap, shape, seed, number, folder):
    made, _ = command._shared
    made[number] = shape.events // 2
    command.time.sleep(0.2)
    made[number] = shape.events
    return seed


def test_the_progress_of_every_process_is_told_together(monkeypatch, capsys):
    monkeypatch.setattr(command, "_part", _slow)
    monkeypatch.setattr(command, "REPORT_S", 0.05)
    assert command._produce("nowhere:1", [SimpleNamespace(events=1000)] * 2, 7, None) == [7, 8]
    assert " of 2,000 events · " in capsys.readouterr().err


def _endless(bootstrap, shape, seed, number, folder):
    if number == 0:
        raise ValueError(seed)
    _, ended = command._shared
    ended.wait(60)
    return seed


def test_when_one_process_fails_the_others_stop(monkeypatch):
    monkeypatch.setattr(command, "_part", _endless)
    began = command.time.monotonic()
    with pytest.raises(ValueError, match="7"):
        command._produce("nowhere:1", [SimpleNamespace(events=1000)] * 2, 7, None)
    assert command.time.monotonic() - began < 60
