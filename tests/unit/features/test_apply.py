"""`feast apply` ends, well or not."""
import pytest

from weir.errors import ServiceFailed
from weir.features.apply import apply


@pytest.fixture
def feast(tmp_path):
    def made(script):
        path = tmp_path / "fake-feast"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return made


def test_one_that_hangs_is_ended_and_the_error_says_where_to_look(tmp_path, feast):
    with pytest.raises(ServiceFailed, match="did not end in 0 s") as caught:
        apply({"WEIR_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, feast=feast("echo Applying; exec sleep 30"), timeout_s=0.3)
    assert str(tmp_path / "feast" / "apply.log") in caught.value.hint


def test_one_that_refuses_is_told_by_its_last_line(tmp_path, feast):
    with pytest.raises(ServiceFailed, match="registry is broken"):
        apply({"WEIR_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, feast=feast("echo one; echo the registry is broken >&2; exit 3"))


def test_one_that_ends_well_says_nothing_and_gets_the_repository(tmp_path, feast):
    apply({"WEIR_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, feast=feast('echo "$@"'))
    assert (tmp_path / "feast" / "apply.log").read_text().strip().endswith("feature_repo apply")
