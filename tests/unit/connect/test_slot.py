"""What of the stream is lost, by what Connect and PostgreSQL say; no more is asked than that."""
from dataclasses import replace

import pytest

from weir.connect.slot import Loss, Stream, committed, lost
from weir.contracts.wayback import GAP

WELL = Stream("RUNNING", "RUNNING", "", committed_lsn=500, wal_status="reserved", slot_lsn=480, reader=7, now_lsn=600)
STOPPED = replace(WELL, state="STOPPED", task="NONE", reader=None)


@pytest.mark.parametrize(("stream", "wanted"), [
    (WELL, None),
    (replace(WELL, task="FAILED", trace="heap is full", reader=None), None),
    (STOPPED, None),
    (replace(STOPPED, wal_status="extended"), None),
    (replace(STOPPED, wal_status="lost"), Loss.INVALID),
    (replace(STOPPED, wal_status="", slot_lsn=None), Loss.GONE),
    (replace(STOPPED, slot_lsn=501), Loss.ANEW),
    (replace(STOPPED, slot_lsn=500), None),
    (replace(WELL, task="FAILED", trace=f"LSN{{0/1}} is {GAP}.", reader=None), Loss.ANEW),
    (replace(WELL, slot_lsn=501), None),  # read: its reader committed what it confirmed before we asked
    (replace(STOPPED, wal_status="", slot_lsn=None, committed_lsn=None), None),  # a first start
])
def test_what_is_lost_follows_from_slot_and_offsets(stream, wanted):
    assert lost(stream) is wanted


def test_the_highest_lsn_of_the_offsets_is_what_was_committed():
    document = {"offsets": [{"partition": {"server": "shop"}, "offset": {"lsn": 90, "lsn_proc": 95, "lsn_commit": 92, "txId": 1000}}]}
    assert committed(document) == 95
    assert committed({"offsets": []}) is None
    assert committed({"offsets": [{"partition": {}, "offset": None}]}) is None
