"""What the page shows when parts are missing."""
import json
from dataclasses import replace

import pytest

from weir.contracts.model import WhyPopularity
from weir.contracts.path import PATH
from weir.quality import board, terminal
from weir.quality.judge import judge
from weir.quality.pipeline import Api, Verified


def _report():
    return judge((), (), (), None, cdc_topics={}, now_ms=1)


def test_every_stage_of_the_path_is_shown_even_with_nothing_known():
    rows = board.stage_rows(_report())
    assert [r.name for r in rows] == [s.name for s in PATH]
    assert [terminal.lag(r.lag, unknown="unknown") for r in rows] == ["-", *["unknown"] * (len(PATH) - 1)], "only the source has no input"


def test_states_that_nobody_has_written_lately_are_unknown(tmp_path):
    assert board.services(tmp_path) is None
    (tmp_path / "run").mkdir()
    document = {"written_at_ms": 0, "services": [{"name": "api", "state": "ready", "pid": 1, "endpoint": ""}]}
    (tmp_path / "run" / "services.json").write_text(json.dumps(document))
    assert board.services(tmp_path)[0]["state"] == "unknown"


def test_all_is_verified_through_the_earliest_and_through_nothing_when_one_never_was():
    made = [Verified("table", n, "yes", "", 9, 1, at) for n, at in (("users", 5), ("items", 3))]
    never = Verified("view", "user_profile", "unknown", "", 9, None, None)
    assert [board.verified_through_ms(v) for v in (made, [*made, never], (), None)] == [3, None, None, None]


def test_the_page_says_which_model_serves_or_that_popularity_does():
    told = [board.model_line(api) for api in (None, Api(ready=True, items=3, model_version="7"), Api(ready=True, items=3, model_version="popularity"))]
    assert told == ["Recommendations: unknown, the API is not ready", "Recommendations: by model 7 (champion), over 3 items",
                    "Recommendations: by popularity, over 3 items"]


@pytest.mark.parametrize(("code", "words"), [
    ("nothing_trained", "popularity, since nothing was trained yet"), ("not_beaten", "popularity, since no model has beaten it"),
    ("rolled_back", "popularity, since the champion was rolled back by hand"), ("unreadable", "popularity, since the champion cannot be read"),
    ("", "popularity"), ("of a newer API", "popularity")])
def test_the_page_says_why_popularity_serves_only_where_that_is_known(code, words):
    assert board.model_line(Api(ready=True, items=3, model_version="popularity", why_popularity=code)) == f"Recommendations: by {words}, over 3 items"


def test_each_reason_that_the_api_can_give_has_its_words():
    assert set(board.SINCE) == set(WhyPopularity)


def test_the_page_says_within_which_time_every_landed_row_was_checked():
    report = replace(_report(), checked_at_ms=7_200_000, checked_since_ms=0)
    assert board.checked_line(report).endswith("checked within 2 h")
    assert board.checked_line(_report()) == "Landed rows: none is below a mark"
