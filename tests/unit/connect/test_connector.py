"""What would change in the connector, and when a change has taken hold, without a Connect."""
import httpx
import pytest

from weir.connect import connector
from weir.connect.connector import Plan, Setting, differences
from weir.connect.register import LIST, keeping, tables
from weir.contracts.endpoints import Endpoints
from weir.errors import ServiceFailed

BASE = {LIST: "public.users,public.weir_signal", "tasks.max": "1"}


def test_settings_that_differ_are_named_with_both_values():
    assert differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "5", "d": "4"}) == (Setting("b", "2", "5"), Setting("c", "3", None), Setting("d", None, "4"))
    assert str(Setting("c", "3", None)) == "c: 3 -> (none)"
    assert not Plan("shop", registered=True, task="RUNNING", settings=()).changes
    assert Plan("shop", registered=False, task="NONE", settings=()).changes


def test_a_start_takes_no_added_table_out_of_the_live_list():
    live = BASE | {LIST: "public.users,public.orders,public.weir_signal"}
    assert tables(keeping(BASE, live)) == ["public.users", "public.weir_signal", "public.orders"]
    assert keeping(BASE, {}) == BASE
    assert keeping(BASE, live)["tasks.max"] == "1"


@pytest.fixture
def connect(monkeypatch):
    """A Connect that says RUNNING all the while, as it does of a task that it is about to end; `readers`: who reads the slot, look by look."""
    put, readers, now = [], [], [0.0]

    def answer(request):
        if request.method == "PUT":
            put.append(request.url.path)
        running = {"connector": {"state": "RUNNING"}, "tasks": [{"state": "RUNNING"}]}
        return httpx.Response(200, json=running if request.url.path.endswith("/status") else {"name": "shop", **BASE})

    client = httpx.Client
    monkeypatch.setattr(connector.httpx, "Client", lambda **given: client(transport=httpx.MockTransport(answer), **given))
    monkeypatch.setattr(connector, "reader", lambda _dsn: readers.pop(0) if len(readers) > 1 else readers[0])
    monkeypatch.setattr(connector.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(connector.time, "monotonic", lambda: now[0])
    return put, readers


def test_a_change_has_taken_hold_when_another_process_reads_the_slot_and_not_by_the_word_running(connect):
    put, readers = connect
    readers += [41, 41, None, 41, None, 52, 53]
    assert connector.apply(Endpoints.local(), BASE | {"tasks.max": "2"}).changes
    assert readers == [53], "it was looked at until a new one read"
    assert len(put) == 1


def test_a_task_that_never_reads_the_slot_is_told(connect):
    connect[1].append(41)
    with pytest.raises(ServiceFailed, match="no task that was started with it reads the slot yet"):
        connector.apply(Endpoints.local(), BASE | {"tasks.max": "2"})
