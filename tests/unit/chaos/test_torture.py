"""Torture's plan, hooks and judgement, without a process but the one that a hook ends."""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter
from pathlib import Path

import pytest

from weir.chaos.torture import controls, plan, run
from weir.chaos.torture.cell import Cell
from weir.chaos.torture.plan import Made
from weir.ingest import points
from weir.stack import usual

ROOT = Path(__file__).resolve().parents[3]


def test_what_the_workers_have_yet_to_finish_is_told_with_rate_and_time_to_go():
    times = iter([0.0, 12.0])
    left = usual.Lessening(lambda: next(times))
    assert [run._unfinished(offsets, left) for offsets in (600, 300)] == ["600 offsets are not committed yet", "300 offsets are not committed yet, 25.0/s, about 12 s to go"]


def test_the_gateway_lives_on_when_the_slot_that_started_it_again_has_ended(tmp_path):
    cell, made, log = Cell(types.SimpleNamespace(home=tmp_path)), [], tmp_path / "logs" / "gateway.log"

    def slot():
        made.append(cell._spawn("gateway", [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], {}, None))
        while made[0].poll() is None and not log.read_bytes():
            time.sleep(0.01)

    thread = threading.Thread(target=slot)
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        made[0].wait(0.5)
    made[0].kill()
    made[0].wait(10)
    cell.down()


def test_verifying_is_told_with_rate_and_time_to_go():
    assert str(run.Progress(2000, 3000, 500.0, 2.0)) == "2,000 of about 3,000 records and rows, 500/s, 2 s to go"


def test_the_named_points_are_those_of_the_lane():
    text = (ROOT / "src" / "weir" / "ingest" / "lane.py").read_text()
    assert set(re.findall(r'self\.reach\("(\w+)"\)', text)) == set(points.POINTS)


def test_without_its_variables_a_hook_opens_counts_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed"))
    reach = points.reaching({"WEIR_INGEST_CRASH_AT": "", "OTHER": "before_declare"})
    for name in points.POINTS * 3:
        reach(name)


def test_a_hook_ends_the_process_at_the_asked_pass_and_the_trail_outlives_it(tmp_path):
    trail = tmp_path / "trail"
    code = "import os; from weir.ingest import points; reach = points.reaching(os.environ)\nfor n in range(9):\n    for p in points.POINTS: reach(p)"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), points.CRASH_AT: "after_insert:2", points.TRAIL: str(trail)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -signal.SIGKILL
    assert trail.read_text().split() == [*points.POINTS, *points.POINTS[: points.POINTS.index("after_insert") + 1]]


@pytest.mark.parametrize(("trail", "flying"), [
    ([], False), (["before_declare"], True), (["before_declare", "after_declare"], True), (["after_insert"], True), (["after_insert", "after_finish"], False),
    (["after_finish", "before_declare"], True), (["before_replay"], True), (["before_replay", "after_replay"], False),
])
def test_a_batch_is_in_flight_from_its_forming_to_the_commit_of_its_end(trail, flying):
    assert points.in_flight(trail) is flying


def test_a_thousand_kills_meet_every_point_often_nine_of_ten_with_a_batch_in_flight_and_a_plan_is_its_seeds():
    found = plan.plan(1000, 7)
    assert len(found) == 1000
    met = Counter(k.where for k in found)
    assert all(met[p] > 100 for p in points.POINTS if p != "after_finish")
    assert 40 < met["after_finish"] < 60
    seen_at_random = 0.75  # of the kills at random that were made in bench/results/torture-2026-12-01.json
    assert (1000 - met["after_finish"] - (1 - seen_at_random) * met[plan.RANDOM]) / 1000 > 0.9
    assert 30 < sum(k.what == plan.GATEWAY for k in found) < met[plan.RANDOM]
    assert found == plan.plan(1000, 7) != plan.plan(1000, 8)
    assert plan.plan(6, 7) == found[:6]
    assert {k.where for k in found[:6]} == set(points.POINTS)
    assert {k.nth for k in found if k.where == "after_insert"} == {1, 2, 3, 4}
    assert {k.nth for k in found if k.where == "before_replay"} == {1}


def made(where, *, hit=True, flying=True, what="worker"):
    return Made(0, what, where, 1, hit, flying, 1, 2.0, 3.0)


def test_what_missed_counts_neither_as_hit_nor_as_in_flight():
    found = plan.summary([made("after_insert"), made("after_insert", hit=False), made("random", flying=False), made("random", what="gateway")])
    assert (found["kills"], found["hit"], found["in_flight"], found["in_flight_share"]) == (4, 3, 2, 0.667)
    assert found["hit_by_place"] == {"gateway random": 1, "worker after_insert": 1, "worker random": 1}
    assert found["missed"] == {"worker after_insert": 1}
    assert plan.rows([made("random")])[1][:3] == [0, "worker", "random"]


def test_a_control_is_caught_only_when_exactly_what_was_planted_is_told():
    planted = ((3, "missing", 5, 5),)
    assert controls.Control("loss", planted, planted, "no").caught
    assert not controls.Control("loss", planted, (), "yes").caught
    assert not controls.Control("loss", planted, planted, "unknown").caught
    assert not controls.Control("loss", planted, (*planted, (3, "missing", 6, 6)), "no").caught
