import asyncio

import pytest

from weir.gateway.failures import Failure
from weir.gateway.hold import Writes


def test_a_hold_begins_when_what_writes_has_ended_and_holds_back_what_comes():
    async def story():
        writes, told = Writes(), []
        go_on = asyncio.Event()

        async def first():
            async with writes.one():
                await go_on.wait()
                told.append("first ends")

        async def second():
            async with writes.one():
                told.append("second")

        async def hold():
            async with writes.hold(5):
                told.append("held")
                later.append(asyncio.ensure_future(second()))
                for _ in range(5):
                    await asyncio.sleep(0)
                told.append("let go")

        later = []
        running = asyncio.ensure_future(first())
        await asyncio.sleep(0)
        holding = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(running, holding)
        await asyncio.gather(*later)
        return told

    assert asyncio.run(story()) == ["first ends", "held", "let go", "second"]


def test_a_hold_that_comes_in_vain_says_so_and_lets_writes_go_on():
    async def story():
        writes = Writes()
        async with writes.one():
            with pytest.raises(Failure) as error:
                async with writes.hold(0):
                    raise AssertionError("it must not begin")
            assert (error.value.status, "1 statements that write" in error.value.text) == (503, True)
        assert not writes.held
        async with writes.one():
            return writes.running

    assert asyncio.run(story()) == 1


def test_a_second_hold_is_refused_and_the_first_goes_on():
    async def story():
        writes = Writes()
        async with writes.hold():
            with pytest.raises(Failure):
                async with writes.hold():
                    raise AssertionError("it must not begin")
            return writes.held

    assert asyncio.run(story())


@pytest.mark.parametrize("turns", range(7))
def test_a_hold_never_begins_beside_a_write_whichever_turn_of_the_loop_it_comes_in(turns):
    async def story():
        writes, together = Writes(), []

        async def write():
            async with writes.one():
                together.append(began.is_set() and writes.held)
                for _ in range(10):
                    await asyncio.sleep(0)
                    together.append(began.is_set() and writes.held)

        async def hold():
            async with writes.hold(5):
                together.append(writes.running > 0)
                began.set()
                for _ in range(10):
                    await asyncio.sleep(0)
                    together.append(writes.running > 0)

        began = asyncio.Event()
        writing = asyncio.ensure_future(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(hold(), writing)
        return together

    assert not any(asyncio.run(story()))
