"""The load generator's draws: of the contract, reproducible, and journalled as they are."""
import itertools
import json
import uuid

import numpy as np
import pytest

from weir.errors import Unavailable
from weir.ingest.decode import user_events
from weir.ingest.record import Record
from weir.simulation import journal as journals
from weir.simulation import load
from weir.simulation.journal import Journal

NOW = 1_780_000_000_000
SHAPE = load.Shape(bad=0.02, late=0.05, dup=0.01)


def drawn(seed=1, count=5000, shape=SHAPE):
    return load.chunk(np.random.Generator(np.random.PCG64(seed)), shape, count, 0, NOW)


def test_what_the_journal_calls_good_is_accepted_and_what_it_calls_bad_is_not():
    chunk = drawn()
    reasons = user_events([Record("user-events", 0, n, NOW, None, r["value"], "") for n, r in enumerate(chunk.records)], "b").column("reject_reason").to_pylist()
    assert (reasons.count(""), len(reasons) - reasons.count("")) == (chunk.good + chunk.repeated, chunk.bad)
    assert min(chunk.bad, chunk.repeated, chunk.late) > 0


def test_the_sum_of_ids_is_the_journals():
    chunk, one, whole = drawn(), Journal(1, NOW), Journal(1, NOW)
    accepted = set()
    for r in chunk.records:
        try:
            event = json.loads(r["value"])
        except ValueError:
            continue
        accepted.add(event.get("event_id"))
    for event_id in accepted - {json.loads(load.derive.bad_events(1, NOW)[1])["event_id"]}:  # of the bad ones
        assert str(uuid.UUID(event_id)) == event_id
        one.note(event_id)
    whole.note_all(chunk.good, chunk.id_sum)
    assert (one.produced, one.id_sum) == (whole.produced, whole.id_sum)


def test_a_seed_draws_the_same_and_another_seed_other_ids():
    assert drawn(7).records == drawn(7).records
    assert drawn(7).id_sum != drawn(8).id_sum


def test_skew_makes_few_users_frequent_and_none_makes_all_alike():
    uniform = np.random.Generator(np.random.PCG64(1)).random(100_000)
    skewed, even = load.ranks(uniform, 1000, 1.0), load.ranks(uniform, 1000, 0.0)
    assert (skewed == 1).mean() > 0.08
    assert (even == 1).mean() < 0.002
    assert (skewed.min(), skewed.max() <= 1000, even.min()) == (1, True, 1)


def test_a_session_is_one_user_in_one_country_and_sessions_overlap():
    events = [json.loads(r["value"]) for r in drawn(shape=load.Shape(bad=0, dup=0)).records]
    by_session = {}
    for e in events:
        by_session.setdefault(e["session_id"], set()).add((e["user_id"], e["country"]))
    assert all(len(owners) == 1 for owners in by_session.values())
    assert 3 < len(events) / len(by_session) < 10
    changes = sum(a["session_id"] != b["session_id"] for a, b in itertools.pairwise(events))
    assert changes > len(by_session)


def test_an_event_is_about_200_bytes():
    sizes = [len(r["value"]) for r in drawn(shape=load.Shape(bad=0)).records]
    assert 180 < sum(sizes) / len(sizes) < 300


class _Full:
    """A producer that is never acknowledged."""

    def __init__(self):
        self.held = 0

    def __len__(self):
        return self.held

    def poll(self, _seconds):
        pass

    def produce(self, *_topic, **_record):
        self.held += 1

    def produce_batch(self, _topic, records):
        self.held += len(records)
        return len(records)

    def flush(self, _seconds):
        return self.held


def test_a_load_that_fails_leaves_its_journal_over_an_older_one_and_says_that_it_is_not_complete(tmp_path, monkeypatch):
    path = tmp_path / "journal-1.json"
    Journal(1, NOW, produced=7, complete=True).save(path)
    monkeypatch.setattr(load, "bulk", lambda *_: _Full())
    with pytest.raises(Unavailable):
        load.run("nowhere", load.Shape(events=3000), 1, keep=lambda journal: journal.save(path))
    found = journals.load(path)
    assert (found.complete, found.produced + found.bad, found.failed) == (False, 3000, 3000 + found.repeated)
