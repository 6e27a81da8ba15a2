"""What is decoded again: the batch of each record, the hash of a range, what a table lacks."""
import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from weir.ingest.verify import landing, spill
from weir.replay.decoded import batches_of, hashed
from weir.replay.owed import lacking


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=8), st.lists(st.integers(0, 60), max_size=30))
def test_a_record_keeps_the_batch_that_the_ledger_books_its_offset_under(steps, offsets):
    firsts, lasts, at = [], [], 0
    for length, gap in steps:
        firsts.append(at)
        lasts.append(at + length - 1)
        at += length + gap
    booked = np.array(firsts, np.int64), np.array(lasts, np.int64), [f"b{n}" for n in range(len(steps))]
    wanted = [next((f"b{n}" for n, (a, b) in enumerate(zip(firsts, lasts, strict=True)) if a <= o <= b), "other") for o in offsets]
    assert batches_of(np.array(offsets, np.int64), booked, "other") == wanted


def _rows(*events):
    made = {c: [0 if kind == pl.Int64 else 1.0 if kind == pl.Float32 else b""] * len(events) for c, kind in landing.SCHEMA.items()}
    return pl.DataFrame(made | {"offset": list(range(len(events))), "event_id": list(events)}, schema=landing.SCHEMA)


def test_the_hash_of_a_range_is_of_its_rows_whatever_their_order_or_batch():
    rows = _rows(b"a", b"b", b"c")
    assert hashed(rows) == hashed(rows.reverse()) == hashed(rows.with_columns(batch=pl.lit(b"x")))
    assert hashed(rows) == (hashed(rows[:1]) + hashed(rows[1:])) % (1 << 64)
    assert hashed(rows) != hashed(_rows(b"a", b"b", b"d"))
    assert hashed(rows[:0]) == 0


def _digests(*pairs):
    made = np.zeros(len(pairs), spill.DIGEST)
    made["key"][:, 0], made["value"] = [k for k, _ in pairs], [v for _, v in pairs]
    return made


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12))
def test_a_key_is_lacking_when_none_of_its_owed_values_is_there(owed, found):
    there = set(owed) & set(found)
    assert lacking(_digests(*owed), _digests(*found)) == len({k for k, _ in owed} - {k for k, _ in there})
