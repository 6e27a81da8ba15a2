"""The broker's storage."""
import re
import subprocess
import uuid
from pathlib import Path

import pytest

from weir.connect import kafka
from weir.contracts.endpoints import Endpoints
from weir.errors import ServiceFailed


def test_a_cluster_id_never_looks_like_an_option():
    drawn = iter([uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(int=7)])
    assert kafka.cluster_id(lambda: next(drawn)) == "AAAAAAAAAAAAAAAAAAAABw"


@pytest.fixture
def formatting(tmp_path, monkeypatch):
    """A home, and what stands where Kafka's formatter would: writes a checkpoint, is killed there or not, and then writes meta.properties, as the formatter does."""
    def run(argv, **_):
        folder = Path(re.search(r"^log.dirs=(.*)$", Path(argv[-1]).read_text(), re.MULTILINE)[1])
        (folder / "bootstrap.checkpoint").touch(exist_ok=False)
        if killed:
            raise KeyboardInterrupt
        (folder / "meta.properties").write_text("cluster.id=x")
        return subprocess.CompletedProcess(argv, 0, "", "")

    killed = []
    monkeypatch.setattr(kafka.jars, "fetch", lambda _home: None)
    monkeypatch.setattr(kafka.java, "argv", lambda *_, arguments, **__: ["java", *arguments])
    monkeypatch.setattr(kafka.subprocess, "run", run)
    kafka.prepare(tmp_path, Endpoints.local())
    return tmp_path, killed


def test_a_formatter_that_was_killed_is_followed_by_one_that_begins_anew(formatting):
    home, killed = formatting
    killed.append(True)
    with pytest.raises(KeyboardInterrupt):
        kafka.format_storage(home)
    killed.clear()
    kafka.format_storage(home)
    assert sorted(p.name for p in (home / "kafka" / "data").iterdir()) == ["bootstrap.checkpoint", "meta.properties"]
    assert not (home / "kafka" / "data.new").exists()
    kafka.format_storage(home)  # formatted: nothing is done


def test_files_that_are_no_storage_are_left_alone_and_told(formatting):
    home, _ = formatting
    (home / "kafka" / "data" / "mine").write_text("x")
    with pytest.raises(ServiceFailed, match=r"no storage of Kafka's.*clean deletes"):
        kafka.format_storage(home)
    assert (home / "kafka" / "data" / "mine").read_text() == "x"
