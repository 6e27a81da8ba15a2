"""A short run of `./weir torture`: one kill at each named point on a stack of its own. `--kills 1000` is the same, longer (bench/results)."""
import json

import psutil
import pytest
from tests.stack.conftest import PORT_BASE

from weir.chaos.torture.run import PORT_SHIFT
from weir.ingest.points import POINTS

pytestmark = pytest.mark.stack


def test_workers_that_are_killed_at_every_point_lose_and_double_nothing_and_planted_faults_are_told(stack):
    done = stack.weir("torture", "--kills", str(len(POINTS)), "--rate", "500", "--json", timeout=560, check=False)
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout)
    told = {k: v for k, v in found.items() if k not in {"verify", "made"}}
    assert (done.returncode, found["verdict"]) == (0, "yes"), told
    assert found["hit"] >= len(POINTS) - 1, told  # a rare point may not come in time, which is told and proves nothing
    assert found["in_flight"] >= found["hit"] - 1 - found["hit_by_place"].get("worker after_finish", 0), told
    assert [c["caught"] for c in found["controls"]] == [True] * 3
    assert found["verify"]["judged"] > 1000
    assert not (stack.home / "torture").exists()
    base = PORT_BASE + PORT_SHIFT
    assert {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and base <= c.laddr.port < base + 20} == set()
