"""How far a copy is, and that a capped one reads no faster than it may."""
import pytest

from weir.capture import pace


@pytest.mark.parametrize(("rows", "total", "seconds", "said"), [
    (25_000, 100_000, 5.0, "orders: 25,000 of about 100,000 rows, 5,000 rows/s, about 15 s to go"),
    (0, 100_000, 5.0, "orders: 0 of about 100,000 rows, 0 rows/s"),
    (120_000, 100_000, 10.0, "orders: 120,000 of about 120,000 rows, 12,000 rows/s, about 0 s to go"),
    (500, 0, 0.0, "orders: 500 rows, 5,000 rows/s"),
])
def test_a_line_says_rate_and_time_to_go_where_they_are_known(rows, total, seconds, said):
    assert pace.line("orders", rows, total, seconds) == said


def _paced(most, reads):
    """Return (time it is at after `reads` of (rows, seconds each takes), what was slept)."""
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    held = pace.Pace(most, clock=lambda: now[0], sleep=sleep)
    for rows, seconds in reads:
        now[0] += seconds
        held.read(rows)
    return now[0] - 100.0, slept


def test_a_capped_reader_is_held_to_its_rows_a_second_also_after_a_slow_read():
    took, slept = _paced(1_000, [(1_000, 0.1), (1_000, 0.1), (1_000, 2.5), (500, 0.1)])
    assert took == pytest.approx(5.0)  # held to 1.0 and 2.0; the third took 2.5 s itself; the fourth makes up for nothing
    assert slept == pytest.approx([0.9, 0.9, 0.4])


def test_a_reader_without_a_cap_is_never_held():
    assert _paced(0, [(1_000_000, 0.1)]) == (pytest.approx(0.1), [])
    assert (pace.Pace(0).at_once, pace.Pace(7).at_once) == (None, 7)
