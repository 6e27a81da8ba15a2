"""A cycle tells of each check as it ends, and of how long the others will take."""
from weir.reconcile.cycle import Told
from weir.reconcile.outcome import Outcome


def test_a_cycle_tells_how_many_checks_are_done_how_fast_and_what_is_to_go():
    now, said = [10.0], []
    told = Told(said.append, 4, lambda: now[0])
    for name, rows, seconds in (("users", 900, 3.0), ("orders", 0, 0.0)):
        now[0] += seconds
        made = Outcome("table", name, rows_checked=rows, seconds=seconds)
        assert told.of(made) is made
    assert said == ["1 of 4 checks: table users, 900 rows, 300 rows/s, about 9 s to go", "2 of 4 checks: table orders, 0 rows, 0 rows/s, about 3 s to go"]
