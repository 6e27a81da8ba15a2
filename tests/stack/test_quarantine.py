"""Records that ingest refused, fixed and replayed on the real stack: each counts once, whoever replays it and wherever a replay was killed."""
import json
import subprocess
import sys
import time
import uuid

import pytest
from confluent_kafka import Producer

pytestmark = pytest.mark.stack


def _bad_event(endpoints):
    """Produce one event with a country in lower case; return its place and its event id."""
    event_id, where = str(uuid.uuid4()), []
    body = {"schema_version": 1, "event_id": event_id, "user_id": 7, "item_id": 8, "event_type": "view", "session_id": "test", "country": "de",
            "occurred_at": int(time.time() * 1000)}
    producer = Producer({"bootstrap.servers": endpoints["kafka_bootstrap"]})
    producer.produce("user-events", json.dumps(body), key=b"7", on_delivery=lambda _, m: where.append(f"user-events/{m.partition()}/{m.offset()}"))
    assert producer.flush(20) == 0
    return where[0], event_id


def _until_listed(running, place):
    deadline = time.monotonic() + 20
    while place not in {e["place"] for e in json.loads(running.weir("quarantine", "list", "--json").stdout)}:
        assert time.monotonic() < deadline, f"{place} never came to the quarantine"
        time.sleep(0.2)


def test_a_quarantined_event_is_fixed_and_counts_once_however_often_and_by_however_many_it_is_replayed(running):
    place, event_id = _bad_event(running.endpoints)
    _until_listed(running, place)
    running.weir("quarantine", "fix", place, "--set", "country=DE", "--why", "lower case")
    command = [sys.executable, "-m", "weir.cli", "quarantine", "replay", place, "--why", "corrected"]
    both = [subprocess.Popen(command, env=running.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [p.communicate(timeout=60)[0] for p in both]
    assert 0 in {p.returncode for p in both}, said
    assert "Traceback" not in "".join(said)
    again = [running.weir("quarantine", "replay", place, "--why", "once more", check=False).returncode for _ in range(2)]
    assert again[-1] == 1, again  # the first may finish what one of the two had begun on a busy machine
    landed = f"SELECT country, reject_reason FROM landing.user_events WHERE event_id = '{event_id}'"
    assert running.clickhouse(landed) == [("DE", "")]
    shown = json.loads(running.weir("quarantine", "show", place, "--json").stdout)
    assert (shown["state"], shown["actions"][0]["action"], shown["actions"][0]["why"]) == ("replayed", "fix", "lower case")


@pytest.mark.parametrize("produced", [True, False])
def test_a_replay_that_was_killed_is_finished_by_the_next_and_counts_once(running, produced):
    endpoints = running.endpoints
    place, event_id = _bad_event(endpoints)
    _until_listed(running, place)
    running.weir("quarantine", "fix", place, "--set", "country=FR", "--why", "test")
    _, partition, offset = place.split("/")
    row = f"('user-events', {partition}, {offset}, now64(6), 'replay_requested', 'test', 'killed after this', '', {int(offset) + 1}, 0)"
    running.clickhouse_command(f"INSERT INTO landing.quarantine_actions (topic, partition, offset, at, action, who, why, value, low, to_offset) VALUES {row}")
    if produced:  # what the killed replay had sent: the fixed bytes, committed, and no audit row
        fixed = json.loads(running.weir("quarantine", "show", place, "--json").stdout)["fixed"]
        producer = Producer({"bootstrap.servers": endpoints["kafka_bootstrap"], "transactional.id": f"weir-quarantine-user-events-{partition}"})
        producer.init_transactions(20)
        producer.begin_transaction()
        producer.produce("user-events", fixed, key=b"7", partition=int(partition), headers=[("weir-quarantine-of", place.encode())])
        producer.commit_transaction(20)
    done = json.loads(running.weir("quarantine", "replay", place, "--why", "finish", "--json").stdout)[0]
    assert (done["before"], done["verdict"]) == (produced, "accepted")
    assert running.clickhouse(f"SELECT country, reject_reason FROM landing.user_events WHERE event_id = '{event_id}'") == [("FR", "")]
