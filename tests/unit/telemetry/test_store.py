"""The queue survives a ClickHouse that is away, and does not stand still on a batch that is refused."""
import pytest

from weir.errors import Terminal, Unavailable
from weir.telemetry.store import REFUSALS, Store


class Memory:
    def __init__(self):
        self.fail, self.rows = None, []

    def prepare(self):
        if self.fail:
            raise self.fail

    def insert(self, table, rows):
        if self.fail:
            raise self.fail
        self.rows += rows


def test_rows_wait_until_clickhouse_is_back():
    sink = Memory()
    store = Store(sink)
    sink.fail = Unavailable("away")
    store.offer([("otel_logs", {"n": 1})])
    for _ in range(10):
        with pytest.raises(Unavailable):
            store.flush()
    sink.fail = None
    store.flush()
    assert sink.rows == [{"n": 1}]
    assert store.health()["dropped"] == {}


def test_a_batch_that_is_refused_again_and_again_is_dropped_and_counted():
    sink = Memory()
    store = Store(sink)
    store.flush()
    store.offer([("otel_logs", {"n": 1})])
    for _ in range(REFUSALS):
        store._ready = True
        sink.fail = Terminal("no")
        with pytest.raises(Terminal):
            store.flush()
    assert store.health()["dropped"] == {"otel_logs": 1}
