"""Statements leave deleted entities out; errors are told by code."""
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3.exceptions import ReadTimeoutError

from weir.contracts.features import FEATURE_VIEWS, ValueType
from weir.errors import NotYet, Terminal, Unavailable
from weir.features.marts import failure, literal, statement, to_value

VIEWS = {v.name: v for v in FEATURE_VIEWS}


@pytest.mark.parametrize(("error", "kind"), [
    (DatabaseError("Table d.x does not exist", code=60), NotYet),
    (DatabaseError("no such database", code=81), NotYet),
    (DatabaseError("the text says UNKNOWN_TABLE and is of another code", code=47), Terminal),
    (DatabaseError("too many queries", code=202), Unavailable),
    (OperationalError("connection refused"), Unavailable),
    (ReadTimeoutError(None, None, "slow"), Unavailable),
    (ConnectionResetError("reset"), Unavailable),
])
def test_an_error_is_told_by_its_code_not_by_its_text(error, kind):
    found = failure(error)
    assert type(found) is kind
    assert found.facts["code"] == getattr(error, "code", None)


@pytest.mark.parametrize("view", [v for v in FEATURE_VIEWS if v.entity != "country" and not {"users", "items"} & set(v.triggers)], ids=lambda v: v.name)
def test_a_view_made_of_events_leaves_out_whom_the_source_deleted(view):
    for keys, place in (([3, 4], f"{view.entity} IN (3, 4)"), (None, "")):
        sql = statement(view, keys)
        inner = sql[sql.index("NOT IN (") :]
        assert f"FROM staging.stg_{view.entity.removesuffix('_id')}s" in inner
        assert place in inner  # so that the keyed copy is read by its key
        assert place in sql[: sql.index("NOT IN (")]


def test_a_view_made_of_the_sources_rows_has_none_of_a_deleted_one_already():
    assert "NOT IN" not in statement(VIEWS["user_profile"], [1])
    assert "NOT IN" not in statement(VIEWS["item_catalogue"], None)
    assert statement(VIEWS["country_trending"], ["D'E"]).endswith("WHERE country IN ('D\\'E')")


def test_values_are_the_contracts():
    assert literal("a\\'") == "'a\\\\\\''"
    assert [to_value(k, v) for k, v in ((ValueType.BOOL, 1), (ValueType.INT64, 3.0), (ValueType.DOUBLE, 2), (ValueType.STRING, 5), (ValueType.INT64_LIST, (1, 2)))] == [
        True, 3, 2.0, "5", [1, 2]
    ]
    assert to_value(ValueType.STRING, None) is None
