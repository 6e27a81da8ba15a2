"""The event contract on its way into the embedded engine: an optional field needs no deploy order, a later version waits in the quarantine with the version it was judged by."""
import json
import time

import pytest
from tests.contract.gateway_server import Server

from weir.contracts import names
from weir.contracts.events import EVENT_SCHEMA_VERSION
from weir.ingest import schema
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.decode import arrow_stream, debezium, user_events
from weir.ingest.quarantine import Place, Quarantine
from weir.ingest.record import Record

NOW = int(time.time() * 1000)  # within the tables' TTL
OLD = {"schema_version": 1, "event_id": "a", "user_id": 1, "item_id": 2, "event_type": "view", "session_id": "s", "country": "DE", "occurred_at": NOW}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("clickhouse")).start()
    schema.apply(made.url)
    client = ClickHouse(made.url)
    client.endpoint = made.url
    yield client
    client.close()
    made.stop()


def land(client, first, *values, decoder=user_events, table=names.LANDING_EVENTS, topic=names.TOPIC_USER_EVENTS):
    """Land records by the decoder, as a batch of their own."""
    records = [Record(topic, 0, first + n, NOW, b'{"user_id":1}', json.dumps(v).encode() if isinstance(v, dict) else v, "") for n, v in enumerate(values)]
    made = decoder(records, f"b{first}")
    client.insert(table, made.column_names, arrow_stream(made), f"t{first}", f"q{first}")


def test_a_producer_ahead_and_one_behind_by_an_optional_field_both_land(client):
    land(client, 0, OLD, {**OLD, "rating": 4.5}, {**OLD, "added_later": "x", "and": {"nested": [1]}}, {**OLD, "rating": None})
    assert client.execute(f"SELECT reject_reason, rating FROM {names.LANDING_EVENTS} WHERE offset < 4 ORDER BY offset").splitlines() == ["\t\\N", "\t4.5", "\t\\N", "\t\\N"]


def test_a_later_version_waits_in_the_quarantine_with_the_version_that_judged_it_and_the_one_it_claims(client):
    land(client, 10, {**OLD, "schema_version": EVENT_SCHEMA_VERSION + 1}, b"{", OLD)
    later, broken = (Quarantine(client).entry(Place(names.TOPIC_USER_EVENTS, 0, at)) for at in (10, 11))
    assert (later.reason, later.contract_version, later.claimed_version) == ("unknown_version", EVENT_SCHEMA_VERSION, EVENT_SCHEMA_VERSION + 1)
    assert (broken.reason, broken.contract_version, broken.claimed_version) == ("malformed", EVENT_SCHEMA_VERSION, 0)
    assert later.document()["claimed_version"] == EVENT_SCHEMA_VERSION + 1
    land(client, 12, b"{", decoder=debezium, table=names.LANDING_CDC, topic=names.TOPIC_CDC_USERS)
    assert Quarantine(client).entry(Place(names.TOPIC_CDC_USERS, 0, 12)).contract_version == 0
    assert client.execute(f"SELECT groupArray(offset) FROM {names.QUARANTINE} WHERE offset BETWEEN 10 AND 12 AND topic = '{names.TOPIC_USER_EVENTS}'") == "[10,11]\n"


def test_a_quarantine_that_stood_before_rows_had_a_version_gets_it_and_goes_on(client):
    client.execute(f"ALTER TABLE {names.QUARANTINE} DROP COLUMN contract_version")
    land(client, 20, b"{")
    schema.apply(client.endpoint)
    land(client, 21, b"{")
    assert client.execute(f"SELECT offset, contract_version FROM {names.QUARANTINE} WHERE offset IN (20, 21) ORDER BY offset") == "20\t1\n21\t1\n"
