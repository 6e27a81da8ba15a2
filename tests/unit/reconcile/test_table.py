"""Comparing one table with a source and a sink that are made up."""
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from weir.contracts.cdc import CdcTable
from weir.reconcile.table import Comparer

TABLE = CdcTable("orders", "public.orders", "shop.public.orders", "captured.orders__1", "captured.orders")


class Source:
    def __init__(self, rows):
        self.found = rows

    def columns(self, _table):
        return [("id", "bigint", False), ("note", "text", True)], ["id"]

    @contextmanager
    def snapshot(self):
        yield SimpleNamespace(lsn=1, rows=lambda _sql, _keys: self.found)

    def wait_published(self, *_):
        pass


class Sink:
    def __init__(self, rows):
        self.found, self.asked = rows, []

    def columns(self, _table):
        return {"id": "Int64", "note": "Nullable(String)"}

    def rows(self, sql, _keys):
        self.asked.append(sql)
        return self.found


@pytest.mark.parametrize(("there", "brought", "came"), [
    ({("1",): [7]}, {("1",): [5, 7, 9]}, True), ({("1",): [7]}, {("1",): [5, 9]}, False), ({("1",): [7]}, {}, False), ({}, {("1",): [5]}, True)],
    ids=["the stream brought it", "it brought others", "it brought nothing", "it is deleted there by now"])
def test_a_row_that_changes_all_the_while_is_one_that_the_stream_brought_or_not(there, brought, came):
    sink = Sink(brought)
    comparer = Comparer(TABLE, Source(there), sink, SimpleNamespace(ends=lambda _topic: {}, wait_landed=lambda *_: None))
    assert comparer.came_through({("1",)}, ["SELECT x FROM landing.cdc_changes"]) is came
    assert "FROM (SELECT * FROM (SELECT x FROM landing.cdc_changes) WHERE is_deleted = 0) WHERE" in sink.asked[0]
