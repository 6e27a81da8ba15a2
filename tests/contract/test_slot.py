"""Debezium on a real PostgreSQL and Kafka: a worker that is killed loses nothing, and a slot that was dropped, made anew or not, or invalidated is a failed task, no gap without a word, and known to the way back."""
import pytest
from tests.contract.cdc_stand import standing

from weir.connect.slot import Loss, Slot, lost
from weir.contracts import wayback
from weir.demo import follow
from weir.quality import pipeline
from weir.quality.judge import Verdict

ANEW = "SELECT pg_create_logical_replication_slot('weir', 'pgoutput')"


@pytest.fixture(scope="module")
def stand():
    with standing() as made:
        yield made


def test_a_worker_that_is_killed_again_and_again_loses_and_doubles_nothing(stand):
    for first in (1000, 2000, 3000):
        stand.insert(*range(first, first + 50))
        stand.kill("connect")
        stand.insert(*range(first + 50, first + 60))
        stand.connect()
    def came():
        return sorted(u for _, u in stand.users())  # the first may be the snapshot's

    wanted = sorted(u for first in (1000, 2000, 3000) for u in range(first, first + 60))
    follow.until(lambda: len(came()) >= len(wanted), "every insert", 90)
    assert came() == wanted


@pytest.mark.parametrize(("anew", "loss"), [((), Loss.GONE), ((ANEW,), Loss.ANEW)])
def test_a_slot_that_was_dropped_is_a_failed_task_and_the_way_back_brings_what_it_lost(stand, anew, loss):
    user, slot = 9000 + len(anew), Slot(stand.endpoints)
    stand.insert(user + 200)
    follow.until(lambda: ("c", user + 200) in stand.users(), "a change by the stream", 60)  # before the first commit, within a heartbeat of a snapshot, Debezium has nothing to miss
    assert lost(slot.look()) is None
    stand.ask("PUT", "stop")
    follow.until(lambda: not pipeline.ask_slot(stand.endpoints.postgres_dsn).active, "a slot that nobody reads", 60)
    assert lost(slot.look()) is None, "stopped, and nothing is lost"
    stand.sql("SELECT pg_drop_replication_slot('weir')")
    stand.insert(user)
    stand.sql(*anew)
    assert lost(slot.look()) is loss, "told before the task has failed"
    stand.insert(user + 100)
    stand.ask("PUT", "resume")
    follow.until(lambda: stand.task() == "FAILED" or ("c", user + 100) in stand.users(), "a failed task, or a change past the gap", 90)
    assert ("c", user + 100) not in stand.users(), "a gap without a word"
    told = pipeline.judge_connector(pipeline.ask_connector(stand.endpoints.connect_url))
    assert told.verdict is Verdict.NO
    assert wayback.COMMAND in told.reason
    assert lost(slot.look()) is loss
    _back(stand, slot)
    follow.until(lambda: ("r", user) in stand.users(), "what the slot had lost, read again", 90)
    assert stand.task() == "RUNNING"


def _back(stand, slot):
    """The steps of the way back, each taken twice: one that was stopped after it is gone on with."""
    slot.let_go()
    slot.let_go()
    assert (slot.look().state, slot.look().wal_status, slot.look().committed_lsn) == ("STOPPED", "", None)
    slot.resume()
    slot.resume()
    follow.until(lambda: slot.look().reader is not None, "a stream", 90)


def test_a_slot_that_postgresql_invalidated_is_known_and_let_go(stand):
    slot = Slot(stand.endpoints)
    stand.insert(9600)
    follow.until(lambda: ("c", 9600) in stand.users(), "a change by the stream", 60)
    stand.ask("PUT", "stop")
    follow.until(lambda: slot.look().reader is None, "a slot that nobody reads", 60)
    stand.postgres_with("max_slot_wal_keep_size=16MB")
    stand.insert(9601)
    for _ in range(6):
        stand.sql("SELECT pg_switch_wal()", "UPDATE weir_heartbeat SET ts = now()")
    stand.sql("CHECKPOINT")
    follow.until(lambda: slot.look().wal_status == "lost", "an invalidated slot", 60)
    assert lost(slot.look()) is Loss.INVALID
    assert slot.look().reason
    stand.postgres_with()
    _back(stand, slot)
    follow.until(lambda: ("r", 9601) in stand.users(), "what the slot had lost, read again", 90)
    assert lost(slot.look()) is None
