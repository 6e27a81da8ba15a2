"""Which way a copy is filled, without a stack: by the bulk path where that is right, else by Debezium's snapshot, and by it too when the first way could not be verified."""
import types
from dataclasses import replace

import pytest

from weir.capture import bulk, resync
from weir.contracts import cdc
from weir.contracts.captured import Captured, State
from weir.contracts.endpoints import Endpoints
from weir.contracts.schema import SourceColumn
from weir.errors import Undecided
from weir.reconcile.table import Comparison

COLUMNS = (SourceColumn("id", "bigint", nullable=False, position=1), SourceColumn("note", "text", position=2))
ENTRY = Captured("orders", "public.orders", State.CAPTURING, COLUMNS, frozenset({"id", "note"}), owned=True, generation=1)
PARTS = resync.Parts(Endpoints.local(), None, None, None)


@pytest.fixture(autouse=True)
def landed(monkeypatch):
    """Whether all that the topic has is landed."""
    answer = [True]
    monkeypatch.setattr(bulk, "landed", lambda *_: answer[0])
    return answer


def _quick(entry, columns=COLUMNS):
    return resync._quick(PARTS, entry, replace(entry, columns=columns, used=frozenset(c.name for c in columns), generation=entry.generation + 1))


def test_a_table_that_flows_with_the_columns_of_now_goes_by_the_bulk_path():
    assert _quick(ENTRY)


def test_records_that_have_not_landed_could_win_over_newer_bulk_rows(landed):
    landed[0] = False
    assert not _quick(ENTRY)


@pytest.mark.parametrize("columns", [(*COLUMNS, SourceColumn("more", "integer", position=3)), (COLUMNS[0], replace(COLUMNS[1], name="remark")), (COLUMNS[0], replace(COLUMNS[1], type="interval"))],
                         ids=["added", "renamed", "of a type that was not tested"])
def test_rows_on_their_way_have_other_columns_than_the_bulk_rows_would(columns):
    assert not _quick(ENTRY, columns)


@pytest.mark.parametrize("entry", [replace(ENTRY, state=State.PAUSED), replace(ENTRY, state=State.RESYNCING), replace(ENTRY, owned=False)], ids=["paused", "killed before", "dbt's"])
def test_a_table_that_does_not_flow_or_that_dbt_makes_is_left_to_debezium(entry):
    assert not _quick(entry)


def test_a_type_that_was_not_tested_is_left_to_debezium():
    columns = (COLUMNS[0], SourceColumn("note", "interval", position=2))
    assert not _quick(replace(ENTRY, columns=columns), columns)


@pytest.mark.parametrize(("quick", "first", "wanted"), [(True, 5, ["bulk", "await"]), (False, 5, ["signal", "await"]),
                                                        (True, Undecided("2 keys differ", hint=""), ["bulk", "await", "signal", "await"])])
def test_what_the_bulk_path_brought_and_could_not_be_verified_is_read_again_by_debezium(monkeypatch, quick, first, wanted):
    done, answers = [], [first, 5]

    def waited(*_):
        done.append("await")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(bulk.Fill, "run", lambda *_: done.append("bulk"))
    monkeypatch.setattr(resync, "_signal", lambda *_: done.append("signal"))
    monkeypatch.setattr(resync, "_await", waited)
    monkeypatch.setattr(resync.history, "settle", lambda *_: done.append("settle"))
    assert resync._filled(PARTS, replace(ENTRY, generation=2), ("id",), cdc.CDC_TABLES["users"], lambda _: None, most_per_s=0 if quick else None) == 5
    assert done == wanted


def test_who_wrote_before_a_table_was_published_is_waited_for_before_its_first_row_is_read(monkeypatch):
    done = []
    monkeypatch.setattr(resync.history, "settle", lambda *_: done.append("settle"))
    monkeypatch.setattr(resync, "_signal", lambda *_: done.append("signal"))
    monkeypatch.setattr(resync, "_await", lambda *_: 5)
    resync._filled(PARTS, ENTRY, ("id",), cdc.CDC_TABLES["users"], lambda _: None, most_per_s=None)
    assert done == ["settle", "signal"]


class Hot:
    """A comparer of keys that change all the while, but for those that settle."""

    def __init__(self, settle, came):
        self.settle, self.came, self.asked = settle, came, []

    def keys(self, keys):
        return Comparison(None, len(keys), (), frozenset(k for k in keys if k not in self.settle))

    def came_through(self, keys, feeds):
        self.asked.append((set(keys), feeds))
        return self.came


@pytest.mark.parametrize("came", [True, False])
def test_of_a_row_that_changes_all_the_while_it_is_asked_whether_the_stream_brought_it(came):
    hot = Hot({("1",)}, came)
    assert resync._settled(hot, {("1",), ("2",)}, ["feed"]) is came
    assert hot.asked == [({("2",)}, ["feed"])]


def test_many_rows_that_change_all_the_while_are_looked_for_again():
    hot = Hot(set(), came=True)
    assert not resync._settled(hot, {(str(n),) for n in range(resync.HOT_MAX + 1)}, ["feed"])
    assert hot.asked == []


class Busy:
    """A copy of a table that is written all the while: its rows grow with each look, the clock by what each step takes."""

    def __init__(self, monkeypatch, comparisons):
        self.now, self.rows, self.looks, self._comparisons = 0.0, 0, 0, comparisons
        monkeypatch.setattr(resync, "time", types.SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))
        monkeypatch.setattr(resync, "Progress", lambda _: types.SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(resync, "Comparer", lambda *_: types.SimpleNamespace(whole=self._whole, plan=None))
        source = types.SimpleNamespace(about=lambda _: 0, forget_signals=lambda _: None)
        self.parts = resync.Parts(Endpoints.local(), types.SimpleNamespace(query=self._count, parked=lambda _: {}), source, None)

    def _sleep(self, seconds):
        self.now += seconds
        assert self.now < 3600, "it never ends"

    def _count(self, _sql):
        self.rows += 7
        return [(self.rows,)]

    def _whole(self):
        self.looks += 1
        self.now += 2.0
        found, more = self._comparisons(self.looks)
        return Comparison(None, 50, found, frozenset(), more)


def test_a_copy_of_a_table_that_is_written_all_the_while_is_compared_and_done(monkeypatch):
    busy = Busy(monkeypatch, lambda look: ((types.SimpleNamespace(key=("1",)),), True) if look == 1 else ((), False))
    monkeypatch.setattr(resync, "_feeds", lambda *_: [])
    assert resync._await(busy.parts, cdc.CDC_TABLES["users"], lambda _: None) == 50
    assert (busy.looks, busy.now < 60) == (2, True)


def test_a_copy_that_stays_different_is_given_up_though_its_table_is_written_all_the_while(monkeypatch):
    busy = Busy(monkeypatch, lambda _: ((types.SimpleNamespace(key=("1",)),), False))
    with pytest.raises(Undecided, match="1 keys differ"):
        resync._await(busy.parts, cdc.CDC_TABLES["users"], lambda _: None)
    assert busy.now < 3 * resync.STILL_S
