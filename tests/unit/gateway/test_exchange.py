"""A statement whose client has gone is stopped, whenever that is noticed; no engine, no clock that counts."""
import asyncio
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from weir.gateway import statements
from weir.gateway.engine import Work
from weir.gateway.exchange import Exchange, begin
from weir.gateway.lanes import ClientGoneError, Lanes
from weir.gateway.request import Plan, Request


class Endless:
    """An engine whose statement ends when it is killed."""

    def __init__(self, work):
        self._work, self._loop = work, work.get_loop()

    def kill(self, _query_id):
        self._loop.call_soon_threadsafe(lambda: self._work.done() or self._work.set_exception(RuntimeError("cancelled")))


def _exchange(pool, lanes, work, gone, sql=b"SELECT 1"):
    plan = Plan(Work(sql, "id"), statements.read(sql), "TabSeparated", None)
    return Exchange(Endless(work), pool, lanes, None, Request("POST", "/", {}, {}), plan, gone, lambda: False)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_a_reading_statement_whose_client_is_gone_is_stopped_in_either_lane(long, before):
    async def run(pool):
        loop, lanes = asyncio.get_running_loop(), Lanes(promote_s=3600)
        work, gone, never = loop.create_future(), loop.create_future(), loop.create_future()
        ticket = await lanes.enter(never)
        assert not long or ticket.promote(restartable=True)
        if before:  # it went while the statement was stopped to make room, and waited for its turn
            gone.set_result(None)
        else:
            loop.call_later(0.01, gone.set_result, None)
        with pytest.raises(ClientGoneError):
            await asyncio.wait_for(_exchange(pool, lanes, work, gone)._attended(work, ticket, restartable=False), 5)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))


def test_a_writing_statement_runs_to_its_end_though_its_client_is_gone():
    async def run(pool):
        loop, lanes = asyncio.get_running_loop(), Lanes(promote_s=3600)
        work, gone = loop.create_future(), loop.create_future()
        ticket = await lanes.enter(loop.create_future())
        gone.set_result(None)
        exchange = _exchange(pool, lanes, work, gone, b"INSERT INTO t SELECT 1")
        loop.call_later(0.01, work.set_result, "inserted")
        assert await asyncio.wait_for(exchange._attended(work, ticket, restartable=False), 5) == "inserted"

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))


@pytest.mark.parametrize("sql", [b"INSERT INTO t SELECT 1", b"WITH 1 AS a INSERT INTO t SELECT a", b"WITH q AS (SELECT 1) INSERT INTO t SELECT * FROM q"])
def test_every_insert_has_its_tokens_synced_before_it_is_answered(sql):
    told = []
    running = types.SimpleNamespace(read=lambda: told.append("ended"), abandon=lambda: None, revised=None)
    engine = types.SimpleNamespace(start=lambda _work: running, reach=told.append, sync_tokens=lambda _since: told.append("sync"), tables_changed=lambda: told.append("tables"))
    assert begin(engine, Plan(Work(sql, "id"), statements.read(sql), "TabSeparated", None)).ended
    assert told[0] == "ended"
    assert "sync" in told
