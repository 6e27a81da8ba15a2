"""A load that is interrupted goes on where it was: every event once, whatever of it had landed. The broker is played; the events are the demo's."""
import json
from collections import Counter

import pytest

from weir.demo import loading, reconcile
from weir.errors import Unavailable
from weir.simulation import dataset, derive, journal, produce

DATA = dataset.Dataset(tuple(dataset.RawUser(u, 30, "F", "none", "94043") for u in (1, 2)), tuple(dataset.RawItem(i, f"item {i}", 1995, ("Animation",)) for i in range(1, 6)),
                       tuple(dataset.RawRating(u, i, 4.0, 880_000_000 + 100 * i + u) for i in range(1, 6) for u in (1, 2)))


class Broker:
    """Acknowledges `most` records and then is interrupted; `taken` counts event ids, bad records under their bytes."""

    def __init__(self):
        self.most, self.taken, self.refused, self.failed = 0, Counter(), 0, None

    def __len__(self):
        return 0

    def produce(self, _topic, value=b"", key="", headers=None):
        if self.most == 0:
            raise KeyboardInterrupt
        self.most -= 1
        self.taken[value if key == "bad" else json.loads(value)["event_id"]] += 1

    def produce_batch(self, topic, records):
        for record in records:
            self.produce(topic, **record)
        return len(records)

    def poll(self, _seconds):
        return 0

    def flush(self, _seconds):
        for _ in range(self.refused):
            self.failed("refused", None)
        return 0


@pytest.fixture
def broker(monkeypatch):
    made = Broker()
    monkeypatch.setattr(produce, "bulk", lambda _bootstrap, failed: setattr(made, "failed", failed) or made)
    monkeypatch.setattr(dataset, "directory", lambda: None)
    monkeypatch.setattr(dataset, "read", lambda _folder: DATA)
    monkeypatch.setattr(reconcile, "wait", lambda *_, **__: None)  # what was sent has landed
    monkeypatch.setattr(reconcile, "landed_ids", lambda _client, _journal: {k for k in made.taken if isinstance(k, str)})
    return made


def test_an_interrupted_load_goes_on_and_sends_every_event_once(broker, tmp_path):
    def load(most):
        broker.most = most
        return loading.events(type("E", (), {"kafka_bootstrap": ""}), None, tmp_path, lambda _: None, lambda _: None)

    for most in (0, 9):
        with pytest.raises(KeyboardInterrupt):
            load(most)
        assert not journal.load(loading.journal_path(tmp_path)).complete
    assert sum(broker.taken.values()) == 9
    record, produced = load(-1)
    owed = [e.event_id for e in derive.events(DATA, record.now_ms, record.seed)]
    assert len(owed) > 9
    assert {k: n for k, n in broker.taken.items() if isinstance(k, str)} == dict.fromkeys(owed, 1)
    assert sorted(broker.taken[b] for b in derive.bad_events(record.seed, record.now_ms)) == [1] * 7
    assert (produced, record.complete, record.produced, record.id_sum) == (True, True, len(owed), sum(int(i.replace("-", "")[:16], 16) for i in owed) % (1 << 64))
    assert load(0) == (record, False)  # complete: nothing is sent


def test_a_load_of_which_the_broker_refused_an_event_is_not_complete(broker, tmp_path):
    broker.most, broker.refused = -1, 1
    with pytest.raises(Unavailable, match="left 1 events unacknowledged"):
        loading.events(type("E", (), {"kafka_bootstrap": ""}), None, tmp_path, lambda _: None, lambda _: None)
    assert not journal.load(loading.journal_path(tmp_path)).complete


def test_a_load_whose_last_hour_is_over_is_followed_by_another_last_hour_of_other_events(broker, tmp_path):
    def load():
        broker.most = -1
        return loading.events(type("E", (), {"kafka_bootstrap": ""}), None, tmp_path, lambda _: None, lambda _: None)

    first, _ = load()
    sent = set(broker.taken)
    old = journal.load(loading.journal_path(tmp_path))
    old.now_ms -= derive.HOUR_MS
    old.save(loading.journal_path(tmp_path))
    second, produced = load()
    owed = [e.event_id for e in derive.events(DATA, second.now_ms, second.seed, again=1)]
    assert (produced, second.complete, second.again) == (True, True, 1)
    assert second.now_ms >= first.now_ms
    assert (second.produced, second.bad) == (len(owed), 0)
    assert set(broker.taken) - sent == set(owed)
    assert max(broker.taken.values()) == 1
    assert load() == (second, False)


class Asked:
    """Says which rows were asked for."""

    def __init__(self):
        self.sql = []

    def execute(self, sql):
        self.sql.append(sql)
        return "e1"


def test_each_loads_events_are_told_from_those_of_the_others():
    asked = Asked()
    for again in (0, 2):
        reconcile.landed_ids(asked, journal.Journal(1, 5, again=again))
    first, third = asked.sql
    assert "startsWith(session_id, 'ml-') AND NOT startsWith(session_id, 'ml-again')" in first
    assert "startsWith(session_id, 'ml-again2-')" in third


class Topic:
    """A topic of two partitions, of which retention has taken the head of the first."""

    def __init__(self, *_, **__):
        self.end = 10

    def partitions(self, _topic):
        return [0, 1]

    def bounds(self, _topic, partition):
        return (4, self.end) if partition == 0 else (0, 3)

    def read(self, ranges):
        return [range(low, high) for low, high in ranges.values()]

    def close(self):
        return None


def test_what_retention_has_taken_from_kafka_is_counted_on_neither_side(monkeypatch):
    monkeypatch.setattr(reconcile, "Reader", Topic)
    records = reconcile.TopicRecords("", "t")
    assert records.held() == "topic = 't' AND ((partition = 0 AND offset >= 4) OR (partition = 1 AND offset >= 0))"
    assert records.count() == 6 + 3
    records._reader.end = 12
    assert records.count() == 8 + 3
