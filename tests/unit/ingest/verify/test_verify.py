"""The pure parts of `verify events`, held to the plainest way of saying the same."""
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.cli.verify import lines
from weir.contracts import names
from weir.ingest.verify import expired, landing, spill, views
from weir.ingest.verify.outcome import Bounds, Offsets, Outcome, Table, Tally


def rows(*cells):
    """Landed rows of partition 0: (offset, event id, reject reason)."""
    made = [{"partition": 0, "offset": o, "batch": b"b", "produced_at": 1000 + o, "event_id": e, "user_id": 1, "item_id": 2, "event_type": b"view", "rating": None,
             "session_id": b"s", "country": b"DE", "occurred_at": 60_000 + o, "schema_version": 1, "traceparent": b"", "reject_reason": r, "raw": b""} for o, e, r in cells]
    return pl.DataFrame(made, schema=landing.SCHEMA, orient="row")


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_each_offset_is_judged_as_counting_by_hand_does(sent, stored, altered, rejected):
    def row(offset, there):
        return offset, b"other" if there and offset in altered else b"e%d" % offset, b"malformed" if offset in rejected else b""

    tally, there = Tally(), Counter(stored)
    landing.judge(rows(*[row(o, False) for o in sorted(sent)]), rows(*[row(o, True) for o in sorted(stored)]), 0, tally)
    present = sent & there.keys()
    once = {o for o in present if there[o] == 1} - altered
    assert tally.count("landed") == len(once - rejected)
    assert tally.count("quarantined") == len(once & rejected)
    assert tally.count("missing") == len(sent - there.keys())
    assert tally.count("different") == len(present & altered)
    assert tally.count("doubled") == sum(there[o] - 1 for o in present)
    assert tally.count("unknown") == sum(n for o, n in there.items() if o not in sent)
    for kind, owed in (("missing", sent - there.keys()), ("different", present & altered), ("unknown", there.keys() - sent)):
        told = tally.document(0)["ranges"].get(kind, [])
        assert {o for a, b in told for o in range(a, b + 1)} == owed


@pytest.mark.parametrize("column", landing.COMPARED)
def test_a_row_that_differs_in_any_column_is_different(column):
    sent = rows((5, b"e", b""))
    other = sent.with_columns((pl.lit(b"x") if sent.schema[column] == pl.Binary else pl.lit(9).cast(sent.schema[column])).alias(column))
    tally = Tally()
    landing.judge(sent, other, 0, tally)
    assert (tally.count("different"), tally.count("landed")) == (1, 0)


def digest(cells):
    made = np.zeros(len(cells), spill.DIGEST)
    for n, (key, value, offset) in enumerate(cells):
        made[n]["key"], made[n]["value"], made[n]["first"], made[n]["last"], made[n]["rows"] = (key, 7), value, offset, offset, 1
    return made


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2))), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2))), st.integers(0, 20))
def test_two_sides_are_compared_as_by_hand(owed, found, committed):
    owed = [(k, v, n) for n, (k, v) in enumerate(owed)]
    mine, theirs = defaultdict(list), Counter(k for k, _ in found)
    for key, value, _ in owed:
        mine[key].append(value)
    told = spill.compare(digest(owed), digest([(k, v, 0) for k, v in found]), np.array([n < committed for _, _, n in owed], bool))
    assert told.missing["first"].tolist() == [n for k, _, n in owed if n < committed and not theirs[k]]
    assert len(told.unknown) == sum(k not in mine for k, _ in found)
    assert len(told.different) == sum(k in mine and v not in mine[k] for k, v in found)
    assert dict(zip(told.doubled["key"][:, 0].tolist(), told.doubled_times.tolist(), strict=True)) == {k: n - len(mine[k]) for k, n in theirs.items() if k in mine and n > len(mine[k])}
    seen, again = set(), []
    for key, _, n in owed:
        again += [n] if key in seen else []
        seen.add(key)
    assert sorted(told.repeated["first"].tolist()) == again


def test_both_sides_of_any_number_of_buckets_meet(tmp_path):
    rng = np.random.default_rng(3)
    made = np.zeros(5000, spill.DIGEST)
    made["key"] = rng.integers(0, 1 << 63, (5000, 2), dtype=np.uint64)
    for buckets in (1, 7, 64):
        sides = spill.Sides(tmp_path / str(buckets), 0)
        sides.buckets = buckets
        for piece in np.array_split(made, 9):
            sides.add("owed", piece)
        sides.add("found", made[::-1])
        pairs = [spill.compare(o, f, np.ones(len(o), bool)) for o, f in sides.pairs()]
        assert sum(len(p.missing) + len(p.unknown) for p in pairs) == 0
        assert list((tmp_path / str(buckets)).iterdir()) == []


@given(st.lists(st.integers(0, 40), unique=True, min_size=1), st.lists(st.integers(1, 9)), st.integers(0, 3))
def test_the_ledger_is_the_same_however_the_rows_are_cut(offsets, cuts, rejected):
    offsets = sorted(offsets)
    frame = rows(*[(o, b"e", b"x" if o % 4 == rejected else b"") for o in offsets]).with_columns(pl.Series("batch", [b"b%d" % (o // 7) for o in offsets], pl.Binary))
    fold, out, at = views.RECOMPUTED[names.LEDGER].fold(), [], 0
    for size in [*cuts, 99]:
        out.append(fold.rows(frame[at : at + size]))
        at += size
    out.append(fold.rest())
    told = {r["batch"]: r for r in pl.concat(out).to_dicts()}
    assert sum(map(len, out)) + len(fold.rest()) <= len(told)  # no batch in two pieces
    for batch in {o // 7 for o in offsets}:
        inside = [o for o in offsets if o // 7 == batch]
        row = told.pop(b"b%d" % batch)
        assert (row["first_offset"], row["last_offset"], row["rows"], row["rejected"]) == (inside[0], inside[-1], len(inside), sum(o % 4 == rejected for o in inside))
    assert told == {}


def test_an_event_of_yesterday_is_not_for_the_last_hour_and_what_the_ttl_takes_is_judged_on_neither_side():
    recompute, day = views.RECOMPUTED["staging.int_item_events"], views.DAY_MS
    now = 30 * day
    frame = rows((1, b"now", b""), (2, b"late", b""), (3, b"bad", b"malformed"), (4, b"old", b"")).with_columns(
        pl.Series("produced_at", [now, now, now, now - 3 * day]), pl.Series("occurred_at", [now - 1, now - day, now - 1, now - 3 * day]))
    owed = recompute.fold().rows(frame)
    assert owed["event_id"].to_list() == [b"now", b"old"]
    assert owed["minute"].to_list() == [(now - 1) // 60_000 * 60_000, now - 3 * day]
    assert owed.filter(recompute.kept(now, 0)[1])["event_id"].to_list() == [b"now"]


def test_a_day_that_the_history_is_about_to_lose_is_judged_on_neither_side(monkeypatch):
    monkeypatch.setenv("WEIR_RETENTION_HISTORY_DAYS", "40")
    recompute, day = views.RECOMPUTED["staging.int_active_users"], views.DAY_MS
    now = 20_000 * day + 5
    days = [20_000, 19_962, 19_961, 19_960, 19_900]  # the table's TTL takes 19,960 now
    frame = rows(*[(n, b"e%d" % n, b"") for n in range(len(days))]).with_columns(pl.Series("occurred_at", [d * day + 7 for d in days]))
    where, kept = recompute.kept(now, 0)
    assert recompute.fold().rows(frame).filter(kept)["day"].to_list() == [20_000, 19_962]
    assert where == "toInt64(day) > 19961"


@given(st.lists(st.sets(st.integers(0, 60)), max_size=4))
def test_offsets_are_counted_and_told_as_ranges(chunks):
    told, at, owed = Offsets(), 0, set()
    for chunk in chunks:
        told.add(np.array(sorted(o + at for o in chunk), np.int64))
        owed |= {o + at for o in chunk}
        at += 61
    assert told.count == len(owed)
    assert {o for a, b in told.ranges for o in range(a, b + 1)} == owed


def test_a_batch_below_the_topic_that_lost_rows_is_missing_as_many():
    owed, found, tally = digest([(1, 0, 10), (2, 0, 20)]), digest([(1, 5, 10), (1, 5, 10), (2, 0, 20), (3, 0, 30), (4, 0, 90)]), Tally()
    for side, n in ((owed, [8, 5]), (found, [10, 1, 5, 4, 4])):
        side["rows"] = n
    expired.missing(owed, found, np.full(4, 50), tally)  # the batch at 90 is not below: Kafka judges it
    assert tally.count("missing") == 2 + 4


@pytest.mark.parametrize(("kind", "verdict"), [("landed", "yes"), ("missing", "no"), ("doubled", "no"), ("different", "no"), ("unknown", "unknown"), ("expired", "yes")])
def test_the_verdict_follows_from_the_worst(kind, verdict):
    table, view = Table(names.LANDING_EVENTS, judged=1), Table("staging.v")
    table.tally.of(0, kind).add_range(1, 1, 1)
    outcome = Outcome("user-events", {0: Bounds(0, 5, 5)}, table, [view])
    assert outcome.verdict() == verdict
    table.judged = 0
    assert outcome.verdict() == ("no" if verdict == "no" else "unknown")  # nothing shown is nothing proved
    table.judged, view.reason = 1, "away"
    assert outcome.verdict() == ("no" if verdict == "no" else "unknown")


def test_each_fault_has_a_line_with_its_offsets():
    table, view = Table(names.LANDING_EVENTS, judged=1), Table("staging.v", reason="away")
    table.tally.of(0, "missing").add(np.array([3, 4, 9]))
    view.tally.of(65_535, "unknown").count += 2
    found = lines(Outcome("user-events", {0: Bounds(0, 10, 10)}, table, [view]).document())
    assert found == ["landing.user_events partition 0: 3 missing, offsets 3 to 4, 9", "staging.v: 2 unknown rows of no landed record", "staging.v: away"]
