"""Rows of up to 30 MiB through Debezium and Kafka: what is larger than a record may be is parked by ingest's decoder, and no other table's changes wait for it."""
import json

import pytest
from tests.contract.cdc_stand import standing

from weir.connect import connector, register
from weir.contracts import cdc, names
from weir.contracts.events import RejectReason
from weir.demo import follow
from weir.ingest.decode import debezium
from weir.ingest.record import Record

TOPIC = f"{names.CDC_PREFIX}.public.wide"
MIB = 1 << 20


@pytest.fixture(scope="module")
def stand():
    with standing() as made:
        made.sql("CREATE TABLE wide (id bigint PRIMARY KEY, body text, data bytea, doc jsonb)", "ALTER TABLE wide REPLICA IDENTITY FULL", "ALTER PUBLICATION weir ADD TABLE wide", "GRANT SELECT ON wide TO weir_cdc",
                 "ALTER TABLE wide ALTER COLUMN body SET STORAGE EXTERNAL")
        register.ensure_topic(made.endpoints, TOPIC, 3)
        connector.apply(made.endpoints, connector.wanted(made.endpoints, made.home, ["public.wide"]))
        yield made


def _landed(stand):
    """By id, the (operation, reason) of each of its changes in order, and the last row as it landed."""
    records = sorted((r for r in stand.records(TOPIC) if r.value() is not None), key=lambda r: (r.partition(), r.offset()))
    table = debezium([Record(r.topic(), r.partition(), r.offset(), r.timestamp()[1], r.key(), r.value(), "") for r in records], "b").to_pylist()
    changes, rows = {}, {}
    for row in table:
        key = json.loads(row["key"])["id"]
        changes.setdefault(key, []).append((row["op"], row["reject_reason"]))
        rows[key] = row["after"]
    return changes, rows


def _flows_past(stand, user):
    """A change of another table, committed later, comes; the task has not failed."""
    stand.insert(user)
    follow.until(lambda: ("c", user) in stand.users() or stand.task() == "FAILED", "a change of another table", 120)
    assert stand.task() == "RUNNING"


def test_a_row_of_a_mebibyte_lands_whole(stand):
    stand.sql(f"INSERT INTO wide (id, body) VALUES (1, repeat('\"', {MIB}))", f"UPDATE wide SET body = repeat('b', {MIB}) WHERE id = 1")
    _flows_past(stand, 60_001)
    changes, rows = _landed(stand)
    assert changes[1] == [("c", ""), ("u", "")]
    assert json.loads(rows[1])["body"] == "b" * MIB


@pytest.mark.parametrize(("id_", "column", "value"), [
    (9, "body", f"repeat('xy漢', {8 * MIB})"), (10, "body", f"repeat('x', {30 * MIB})"), (11, "body", f"repeat('漢', {10 * MIB})"), (12, "body", f"repeat(chr(1), {12 * MIB})"),
    (13, "data", f"decode(repeat('ab', {20 * MIB}), 'hex')"), (14, "doc", f"to_jsonb(repeat('\"', {10 * MIB}))"),
])
def test_a_row_too_large_for_a_record_is_parked_and_other_tables_flow(stand, id_, column, value):
    stand.sql(f"INSERT INTO wide (id, {column}) VALUES ({id_}, {value})")
    _flows_past(stand, 60_100 + id_)
    changes, rows = _landed(stand)
    assert (changes[id_], rows[id_]) == ([("c", str(RejectReason.OVERSIZED))], ""), "no shortened value is ever a row"


def test_what_is_made_small_lands_and_what_is_deleted_goes_though_the_row_before_was_too_large(stand):
    stand.sql(f"INSERT INTO wide (id, body) VALUES (20, repeat('x', {30 * MIB})), (21, repeat('y', {30 * MIB}))", "UPDATE wide SET body = 'small' WHERE id = 20", "DELETE FROM wide WHERE id = 21")
    _flows_past(stand, 60_300)
    changes, rows = _landed(stand)
    parked = ("c", str(RejectReason.OVERSIZED))
    assert (changes[20], json.loads(rows[20])["body"]) == ([parked, ("u", "")], "small")
    assert changes[21] == [parked, ("d", "")]


def test_what_is_shortened_is_never_below_what_is_parked(stand):
    """A character of UTF-16 has three bytes at most: by this ratio no pass takes more characters than it has bytes too many."""
    config = connector.wanted(stand.endpoints, stand.home)
    assert int(config["producer.override.max.request.size"]) == int(config["producer.override.buffer.memory"]) == cdc.RECORD_BYTES
    for name in config["transforms"].split(","):
        ratio, most = float(config[f"transforms.{name}.compression.ratio"]), int(config[f"transforms.{name}.max.bytes"])
        assert ratio <= 1 / 3
        assert most / ratio >= cdc.CHANGE_BYTES * 9 / 8
        assert int(config[f"transforms.{name}.min.field.size"]) / 32 == cdc.SURE_BYTES
