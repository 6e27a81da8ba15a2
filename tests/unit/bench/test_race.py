"""What the race decides without a stack: who takes part, what a line of its summary says, what counts as the same."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from weir.errors import UnknownName

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def race(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import race

    return race


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    from peers import environment

    return environment


def _run(mode, views, seconds_of_cpu, events_per_s):
    total = sum(seconds_of_cpu.values())
    return {"mode": mode, "views": views, "events": 1_000_000, "events_per_s": events_per_s, "events_per_cpu_s": round(1_000_000 / total), "cpu_s": seconds_of_cpu}


def test_peers_run_in_one_order_and_a_wrong_name_is_told_the_nearest(race):
    assert race.wanted("spark, plain") == ["plain", "spark"]
    with pytest.raises(UnknownName, match="Did you mean spark"):
        race.wanted("plain,sparc")


def test_weir_runs_first_and_last_and_every_form_of_every_peer_between(race, tmp_path):
    order = race.entries(race.PEERS, tmp_path, Path("peers-python"), [Path("a.jar"), Path("b.jar")])
    names = [e.name for e in order]
    assert names[0] == names[-1] == "weir"
    assert names[1:-1] == ["plain-json", "plain-arrow", "plain-raw", "floor", "quix-json", "quix-raw", "spark-json", "spark-raw"]
    assert [e.exactly_once for e in order] == [True, *[False] * 8, True]
    assert all(e.settings and e.form for e in order[1:-1])


def test_each_form_has_its_own_command_and_each_run_its_own_group(race, tmp_path):
    order = race.entries(["plain", "floor", "spark"], tmp_path, Path("peers-python"), [Path("a.jar"), Path("b.jar")])
    commands = {e.name: e.command("run-7", 1) for e in order if e.command}
    assert [commands[n][-4:] for n in ("plain-json", "plain-raw")] == [["json", "race-run-7", "1", "2"], ["raw", "race-run-7", "1", "2"]]
    assert commands["floor"][-2:] == ["1", "2"]
    assert commands["spark-raw"][0] == "peers-python"
    assert commands["spark-raw"][-3:] == ["raw", str(tmp_path / "checkpoint-run-7"), "a.jar,b.jar"]


def test_a_participants_cpu_of_all_but_the_views_is_of_its_run_without_them(race):
    whole = _run("weir", ["v"], {"kafka": 1.0, "clickhouse": 6.0, "worker-0": 2.0, "worker-1": 1.0}, 100_000)
    bare = _run("weir", [], {"kafka": 1.0, "clickhouse": 2.0, "worker-0": 1.0, "worker-1": 1.0}, 150_000)
    line = race.row(1_000_000, [whole], [bare])
    assert line["events_per_cpu_s"] == 100_000
    assert line["events_per_cpu_s_of_all_but_the_views"] == 200_000
    assert line["cpu_us_an_event"] == {"own_processes": 2.0, "engine_without_views": 2.0, "engine_with_views": 6.0, "broker_and_rest": 1.0}


def test_a_summary_says_plainly_where_weir_is_behind(race):
    results = [
        _run("weir", ["v"], {"worker-0": 10.0}, 100_000), _run("weir", [], {"worker-0": 8.0}, 120_000),
        _run("quick", ["v"], {"worker-0": 5.0}, 200_000), _run("quick", [], {"worker-0": 4.0}, 240_000),
        _run("weir", ["v"], {"worker-0": 10.0}, 120_000), _run("weir", [], {"worker-0": 8.0}, 120_000),
    ]
    weir, quick = race.summary(results)
    assert weir["events_per_s"] == 110_000
    assert weir["weir_is_ahead"] == {"events_per_s": 1.0, "events_per_cpu_s": 1.0, "events_per_cpu_s_of_all_but_the_views": 1.0}
    assert quick["weir_is_ahead"] == {"events_per_s": 0.55, "events_per_cpu_s": 0.5, "events_per_cpu_s_of_all_but_the_views": 0.5}


def test_a_peer_that_failed_once_has_no_figure_but_its_failure(race):
    results = [
        _run("weir", ["v"], {"worker-0": 10.0}, 100_000), _run("weir", [], {"worker-0": 8.0}, 120_000),
        _run("broken", ["v"], {"worker-0": 5.0}, 200_000), {"mode": "broken", "views": [], "failed": "not exact: landed 3 of 4"},
    ]
    assert [line["participant"] for line in race.summary(results)] == ["weir", "broken"]
    assert race.summary(results)[1] == {"participant": "broken", "failed": "not exact: landed 3 of 4"}
    assert race.told(results[-1]) == "failed: not exact: landed 3 of 4"


def test_what_a_peer_said_last_is_what_its_failure_shows(race):
    assert race.last_line("a\n  why it failed \n\n") == "why it failed"
    assert race.last_line("\n") == "it said nothing"


def test_the_cpu_of_a_process_counts_children_that_ended(race):
    code = "import subprocess,sys; subprocess.run([sys.executable,'-c','sum(range(30_000_000))']); print(1,flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        own, whole = race.ingest.cpu_s(process.pid), race.family_cpu_s(process.pid)
        process.stdin.close()
    assert whole > own


def test_a_peer_tells_rows_and_the_first_fetch_and_nothing_else_on_standard_output():
    code = ("from peers.told import Told\nt = Told()\nprint('a library speaks')\nt.wait_for_go()\nt.fetched(5.0)\nt.fetched(6.0)\nt.landed(3)\nt.landed(4)\n"
            "t.ended.wait(10)\nprint(t.ended.is_set())")
    done = subprocess.run([sys.executable, "-c", code], input="go\n", capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "bench")})
    ready, first, second = done.stdout.splitlines()
    assert ready == "ready"
    assert [(d["rows"], d["first"], d["batches"]) for d in map(json.loads, (first, second))] == [(3, 5.0, 1), (7, 5.0, 2)]
    assert "a library speaks" in done.stderr
    assert "True" in done.stderr


def test_another_lock_or_interpreter_is_another_environment(environment):
    of = environment.digest
    assert of("3.11", (b"a", b"b")) == of("3.11", (b"a", b"b"))
    assert len({of("3.11", (b"a", b"b")), of("3.12", (b"a", b"b")), of("3.11", (b"a", b"c")), of("3.11", (b"ab", b""))}) == 4


def test_every_locked_package_of_the_peers_has_its_hash_and_every_jar_its_sum(environment):
    from weir.connect import jars

    for name in environment.LOCKS:
        lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
        pinned = [n for n, line in enumerate(lines) if "==" in line and not line.lstrip().startswith("#")]
        assert pinned
        assert [lines[n] for n in pinned if "--hash=sha256:" not in lines[n + 1]] == []
    found = jars.parse(environment.JARS_LOCK.read_text())
    assert "spark-sql-kafka-0-10_2.13-4.2.0.jar" in [j.filename for j in found]
    assert {j.folder for j in found} == {"spark"}


def test_a_whole_environment_is_used_as_it_is_and_an_unfinished_one_made_anew(environment, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(environment, "_install", lambda target: (target.mkdir(), made.append(target), (target / ".complete").write_text("")))
    half = tmp_path / f"bench-env-{environment.digest()}"
    half.mkdir()
    assert environment.python(tmp_path) == environment.python(tmp_path) == half / "bin" / "python"
    assert made == [half]


def test_sparks_java_is_given_every_argument_but_the_module_that_the_jre_lacks(environment, tmp_path):
    real = tmp_path / "java"
    real.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    real.chmod(0o755)
    wrapper = environment.java_home(tmp_path / "home", real) / "bin" / "java"
    said = subprocess.run([wrapper, "-Xmx1g", "--add-modules=jdk.incubator.vector", "a b", "--add-modules=other"], capture_output=True, text=True, check=True)
    assert said.stdout == "-Xmx1g|a b|--add-modules=other|"
