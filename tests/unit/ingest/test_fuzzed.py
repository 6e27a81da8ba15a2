"""Any bytes in a topic, through the decoder as batches come to it: landed + quarantined = produced, each once and in order, and memory stays flat.

WEIR_TEST_FUZZED says how many records (100,000; `./weir test --long` does 1,000,000), WEIR_TEST_SEED the seed.
"""
import json
import os
import random
from pathlib import Path

import pyarrow as pa

from weir.contracts.events import MAX_EVENT_BYTES, RejectReason
from weir.ingest.batch import Batch
from weir.ingest.decode import arrow_stream, user_events
from weir.ingest.envelope import RAW_KEPT_BYTES
from weir.ingest.record import Record

RECORDS, SEED = int(os.environ.get("WEIR_TEST_FUZZED", "100000")), int(os.environ.get("WEIR_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
BATCH, NOW = 10_000, 1780000000000
GROWTH_BYTES = 64 << 20  # over all batches after the first three: a leak of 100 bytes a record would be 97 MB in a million
ODD = [None, b"", b"{}", b"null", b"[]", b"{", b"\xff\xfe", b" ", b"\n", b"7", b"[" * 5000, b"x" * (MAX_EVENT_BYTES + 1), b'{"a":' * 2000]
VALUES = [None, True, 0, -1, 1.5, 1e300, 2**63, 2**70, "", "x" * 65, "7", [], {}, "\u0000", "\ud800", "DE\n", "bought", 2, [[]], {"a": {"b": 1}}]


def _event(rng, number):
    return {"schema_version": 1, "event_id": f"e{number}", "user_id": rng.randrange(1, 10**6), "item_id": rng.randrange(1, 10**5), "event_type": rng.choice(("view", "click", "rate")),
            "session_id": f"s{number // 6}", "country": rng.choice(("DE", "FR", "US")), "occurred_at": NOW - rng.randrange(3_600_000)}


def _value(rng, number):
    """One record's bytes: of five, one is as it should be, one has fields changed, two have bytes changed, and one is anything."""
    kind, made = rng.randrange(5), _event(rng, number)
    if kind == 4:
        return rng.choice(ODD) if rng.random() < 0.2 else rng.randbytes(rng.randrange(1, 200))
    if kind == 1:
        for _ in range(rng.randrange(1, 4)):
            made[rng.choice([*made, "rating", "added_later"])] = rng.choice(VALUES)
        if rng.random() < 0.3:
            del made[rng.choice([*made])]
    value = bytearray(json.dumps(made, separators=rng.choice(((",", ":"), (", ", ": ")))).encode())
    if kind in {2, 3}:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(value))
            value[at:at + rng.randrange(2)] = rng.choice((b"", b'"', b"\\", b"}", b"\n", b"0", rng.randbytes(1)))
        if rng.random() < 0.2:
            del value[rng.randrange(len(value)):]
    return bytes(value)


def _resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_fuzzed_records_are_each_landed_or_in_the_quarantine_and_memory_is_flat():
    rng, landed, quarantined, resident, reasons = random.Random(SEED), 0, 0, [], set()  # noqa: S311 - drawn again from its seed
    for first in range(0, RECORDS, BATCH):
        values = [_value(rng, n) for n in range(first, min(first + BATCH, RECORDS))]
        records = Batch([Record("user-events", n % 3, first + n, NOW, None, v, "") for n, v in enumerate(values)]).ordered()
        table = pa.ipc.open_stream(arrow_stream(user_events(records, f"b{first}"))).read_all()  # the bytes that an insert sends
        assert table.column("offset").to_pylist() == [r.offset for r in records], SEED
        reason, raw, user = (table.column(c).to_pylist() for c in ("reject_reason", "raw", "user_id"))
        assert raw == [(r.value or b"")[:RAW_KEPT_BYTES] if why else b"" for r, why in zip(records, reason, strict=True)], SEED
        assert all((u == 0) == bool(why) for u, why in zip(user, reason, strict=True)), SEED
        landed, quarantined = landed + reason.count(""), quarantined + len(reason) - reason.count("")
        reasons |= set(reason)
        resident.append(_resident_bytes())
    assert landed + quarantined == RECORDS, SEED
    assert min(landed, quarantined) > RECORDS / 10
    assert reasons | {RejectReason.CLOCK} == {"", *RejectReason}
    assert max(resident[3:]) - max(resident[:3]) < GROWTH_BYTES, (SEED, resident[:3], max(resident))
