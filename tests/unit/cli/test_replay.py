"""What `./weir replay events` says of a plan and of a replay."""
import io

from rich.console import Console

from weir.cli.replay import lines, plan_lines
from weir.replay.decoded import Partition
from weir.replay.plan import Plan
from weir.replay.ranges import Span
from weir.replay.run import Replayed


def _said(told):
    table, said = told
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()], said


def _partition(first, after, quarantined):
    return Partition(Span(first, after), after - first, quarantined, 0, 255)


def test_a_plan_names_rows_days_tables_time_and_room():
    plan = Plan({0: Span(5, 25), 3: Span(0, 1000)}, {0: 20, 3: 990}, {3: 7}, ("20261130",), 5000, ("landing.user_events", "staging.int_user_events"), 3_000_000, 9_000_000, 12.4)
    table, said = _said(plan_lines(plan))
    assert table[1:] == ["0 5 25 20 0", "3 0 1000 990 7"]
    assert said[0].startswith("1,010 landed rows")
    assert "20261130: at most 5,000 rows" in said[0]
    assert "about 12 s" in said[2]
    assert "at most 3 MB beside; ClickHouse's disk has 9 MB. Nothing was changed" in said[2]
    assert plan.document()["partitions"]["3"] == {"from": 0, "to": 1000, "landed": 990, "quarantined": 7}


def test_a_replay_tells_each_partition_and_what_was_exchanged():
    told = Replayed({0: _partition(5, 25, 2), 1: _partition(0, 10, 0)}, {0: {"now_accepted": 3, "was_missing": 1}}, {"staging.sums": 2, "landing.user_events": 1}, {"staging.sums": -1}, 80, 41.6, 3.21)
    table, said = _said(lines(told))
    assert table == ["partition from to accepted quarantined hash now accepted was missing", "0 5 25 18 2 00000000000000ff 3 1", "1 0 10 10 0 00000000000000ff 0 0"]
    assert said == [
        "30 records verified against Kafka, 4 changed, 80 rows of the same days copied; inserts held for 42 ms; 3.2 s in all",
        "exchanged, with their partitions: staging.sums (2), landing.user_events (1)",
        "verified inside ClickHouse alone, since no recompute of them is known: staging.sums",
    ]
    assert told.document()["recomputed"] == {"staging.sums": None}
    assert told.document()["partitions"]["0"]["changed"] == {"now_accepted": 3, "was_missing": 1}


def test_a_range_that_is_the_same_is_told_as_that():
    _, said = _said(lines(Replayed({1: _partition(0, 10, 1)}, {}, {}, {}, 0, 0.0, 1.0)))
    assert said == ["10 records verified against Kafka in 1.0 s: each landed as it would land today, and nothing was changed"]
