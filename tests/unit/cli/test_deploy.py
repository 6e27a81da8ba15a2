"""Between its steps a deploy tells how far the query that runs has come, and that it goes on where none does."""
from weir.cli import outcome
from weir.cli.deploy import Following
from weir.transform.progress import At


def test_a_running_query_is_told_with_rows_rate_and_time_to_go():
    lines = []
    Following(lambda: At(3_000_000, 4_000_000, 4.0), lines.append).tell(12.0)
    assert lines == ["  12 s so far: 3,000,000 of about 4,000,000 rows read, 750,000 rows/s, about 1 s to go"]


def test_a_query_whose_whole_is_not_known_or_passed_promises_no_time():
    assert str(At(5, 0, 1.0)) == str(At(5, 4, 1.0)) == "5 rows read, 5 rows/s"


def test_where_no_query_runs_it_says_now_and_then_that_it_goes_on():
    lines = []
    following = Following(lambda: None, lines.append)
    for seconds in (2.0, outcome.STILL_S, outcome.STILL_S + 2, 2 * outcome.STILL_S):
        following.tell(seconds)
    assert lines == ["  10 s so far", "  20 s so far"]
