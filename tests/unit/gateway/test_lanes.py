"""Lanes: cheap statements never wait for long ones, long ones take turns, and no place is lost whoever goes."""
import asyncio

import pytest

from weir.gateway.failures import Failure
from weir.gateway.lanes import ClientGoneError, Lanes


def _run(test):
    async def body():
        await test(asyncio.get_running_loop().create_future())

    asyncio.run(body())


def test_a_cheap_statement_runs_while_the_long_lane_is_full():
    async def test(here):
        lanes = Lanes(short=1, long=1, wait_s=1)
        old = await lanes.enter(here)
        assert old.promote(restartable=True)
        cheap = await lanes.enter(here)  # would wait forever if the old one still held the only short slot
        assert cheap.is_short
        assert not cheap.promote(restartable=True)  # the long lane is full: it must be stopped and come again
        waiting = asyncio.ensure_future(cheap.again(here))
        await asyncio.sleep(0)
        (await lanes.enter(here)).leave()  # the short slot is free again while it waits
        old.leave()
        await waiting
        assert not cheap.is_short

    _run(test)


def test_one_that_writes_is_never_stopped_and_gives_its_short_slot_up():
    async def test(here):
        lanes = Lanes(short=1, long=0, wait_s=1)
        writer = await lanes.enter(here)
        assert writer.promote(restartable=False)
        assert lanes.beyond == 1
        (await lanes.enter(here)).leave()
        writer.leave()
        assert (lanes.beyond, lanes.running) == (0, 0)

    _run(test)


def test_past_the_queue_and_past_the_wait_a_client_is_told_to_come_again():
    async def test(here):
        lanes = Lanes(short=1, waiting=1, wait_s=0.01)
        first = await lanes.enter(here)
        waiting = asyncio.ensure_future(lanes.enter(here))
        await asyncio.sleep(0)
        with pytest.raises(Failure) as full:
            await lanes.enter(here)
        with pytest.raises(Failure) as late:
            await waiting
        assert (full.value.status, late.value.status) == (503, 503)
        first.leave()
        (await lanes.enter(here)).leave()

    _run(test)


def test_turns_come_in_the_order_of_asking():
    async def test(here):
        lanes, order = Lanes(short=1, wait_s=5), []

        async def one(number):
            ticket = await lanes.enter(here)
            order.append(number)
            await asyncio.sleep(0)
            ticket.leave()

        await asyncio.gather(*(one(i) for i in range(20)))
        assert order == list(range(20))

    _run(test)


def test_whoever_goes_while_waiting_takes_no_slot_along():
    async def test(here):
        lanes = Lanes(short=1, wait_s=5)
        first = await lanes.enter(here)
        gone = asyncio.get_running_loop().create_future()
        left = asyncio.ensure_future(lanes.enter(gone))
        cancelled = asyncio.ensure_future(lanes.enter(here))
        await asyncio.sleep(0)
        gone.set_result(None)
        cancelled.cancel()
        with pytest.raises(ClientGoneError):
            await left
        first.leave()
        (await asyncio.wait_for(lanes.enter(here), 1)).leave()
        assert (lanes.short.free, lanes.running, lanes.waiting) == (1, 0, 0)

    _run(test)


def test_a_paused_statement_holds_no_slot_and_comes_back():
    async def test(here):
        lanes = Lanes(short=1, long=1, wait_s=1)
        reader = await lanes.enter(here)
        reader.pause()
        other = await lanes.enter(here)
        await reader.resume(here)
        assert not reader.is_short  # it took the long lane's
        other.leave()
        reader.leave()
        reader.leave()
        assert (lanes.short.free, lanes.long.free, lanes.running) == (1, 1, 0)

    _run(test)
