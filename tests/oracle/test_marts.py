"""Every mart against a recompute outside ClickHouse, while rows are replayed, updated, deleted and late, and while the first build runs."""
import json
import math
import random
import re
import threading
import time
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.oracle import engine, recompute

from weir.contracts import cdc, names
from weir.contracts.catalogue import ItemCatalogueEntry
from weir.contracts.features import FEATURE_VIEWS, SEEN_MAX, ValueType
from weir.features.marts import Marts
from weir.features.materialize import Materializer
from weir.ingest import decode, profiles, schema
from weir.ingest.clickhouse import ClickHouse
from weir.ingest.record import Record
from weir.reconcile import online
from weir.reconcile.marts import MartCycle
from weir.reconcile.sink import Sink
from weir.telemetry import setup
from weir.training import source as training
from weir.transform import build

PORT = engine.free_port()
URL = f"http://127.0.0.1:{PORT}"
SEED = 20260
MINUTE_MS = 60_000
USERS, ITEMS = range(1, 15), range(1, 19)
STAGED = ("stg_users", "stg_items", "stg_catalogue_items", "stg_truncates", "int_user_events", "int_item_events")
COLUMN_TYPE = {
    ValueType.INT64: "Int64", ValueType.DOUBLE: "Float64", ValueType.STRING: "String", ValueType.BOOL: "Bool",
    ValueType.INT64_LIST: "Array(Int64)", ValueType.DOUBLE_LIST: "Array(Float64)", ValueType.STRING_LIST: "Array(String)",
}
NO_UNIT_TESTS = ("--exclude-resource-type", "unit_test")  # they read no table: test_project.py runs each of them once
# A load that began before the views stand and ends after: 60 blocks of one row, each held up. Ids are of nobody else.
SLOW_ROWS = 60
SLOW = f"""
INSERT INTO landing.user_events (topic, partition, offset, batch, produced_at, event_id, user_id, item_id, event_type, session_id, country, occurred_at, schema_version)
SELECT 'user-events', 11, 900000 + number, 'slow', fromUnixTimestamp64Milli({{at:Int64}}), concat('slow-', leftPad(toString(number), 3, '0')), 99, 1 + number % 5,
       if(sleepEachRow(0.2) = 0, 'view', ''), 'slow', 'SE', fromUnixTimestamp64Milli({{at:Int64}} + number), 1
FROM numbers({SLOW_ROWS}) SETTINGS max_block_size = 1, max_threads = 1
"""


class Source:
    """Sends as ingest does, and keeps what it sent."""

    def __init__(self, client, folder):
        self.client, self.folder, self.sent = client, folder, recompute.Sent()
        self.random, self.now_ms, self.offset, self.number = random.Random(SEED), int(time.time() * 1000), 0, 0  # noqa: S311 - test data, the same in each run
        self.batches, self.before, self.place = [], frozenset(), 0

    def _send(self, table, rows, topic, decoder, partition=0, at_ms=None):
        records = []
        for key, value in rows:
            self.offset += 1
            records.append(Record(topic, partition, self.offset, at_ms or self.now_ms, key, value, ""))
        decoded = decoder(records, f"b{self.offset}")
        batch = (table, decoded.column_names, decode.arrow_stream(decoded), f"token-{topic}-{self.offset}")
        self.batches.append(batch)
        self.client.insert(*batch, f"q-{self.offset}-{time.monotonic_ns()}")

    def replay(self):
        for n, batch in enumerate(self.batches):
            self.client.insert(*batch, f"again-{n}-{time.monotonic_ns()}")

    def event(self, user, item, ago_ms, kind=None, session=None, event_id=None):
        self.number += 1
        kind = kind or self.random.choice(("view", "click", "rate"))
        return {
            "schema_version": 1, "event_id": event_id or f"e{self.random.randrange(1 << 40):010x}", "user_id": user, "item_id": item, "event_type": kind,
            "rating": self._rating(user, item) if kind == "rate" else None, "session_id": session or f"s{self.random.randrange(4)}",
            "country": self.random.choice(("DE", "FR", "SE")), "occurred_at": self.now_ms - ago_ms,
        }

    def _rating(self, user, item):
        """Users like items of their own parity, so that some items are alike."""
        return (self.random.randrange(8, 11) if (user + item) % 2 == 0 else self.random.randrange(1, 11)) / 2

    def events(self, events, noise=()):
        rows = [(str(e["user_id"]).encode(), json.dumps({k: v for k, v in e.items() if v is not None}).encode()) for e in events]
        self._send(names.LANDING_EVENTS, [*rows, *((b"x", value) for value in noise)], names.TOPIC_USER_EVENTS, decode.user_events)
        self.sent.events |= {e["event_id"]: e for e in events}

    def _commit(self, op):
        """Take the next place in the commit order; return (LSN, when Connect sent it). A row of an incremental snapshot has no LSN."""
        self.place += 1
        return (None if op == "r" else 1000 + 8 * self.place), self.now_ms - MINUTE_MS + self.place

    def change(self, table, op, row, at_ms):
        key = row[f"{table[:-1]}_id"]
        lsn, sent_ms = self._commit(op)
        document = {"op": op, "before": row if op == "d" else None, "after": None if op == "d" else row, "source": {"ts_ms": at_ms, "lsn": lsn, "txId": 7, "snapshot": "false"}}
        rows = [(json.dumps({f"{table[:-1]}_id": key}).encode(), json.dumps(document).encode())]
        if op == "d":
            rows.append((rows[0][0], None))  # Debezium's tombstone
        self._send(names.LANDING_CDC, rows, f"{names.CDC_PREFIX}.public.{table}", decode.debezium, at_ms=sent_ms)
        self.sent.changes[table].append((self.place, key, None if op == "d" else row, at_ms))

    def rename(self, table, row, new_key, at_ms):
        """Change a primary key, as Debezium tells it: a delete of the old key with its tombstone, a create of the new one."""
        self.change(table, "d", row, at_ms)
        self.change(table, "c", {**row, f"{table[:-1]}_id": new_key}, at_ms)

    def truncate(self, table, at_ms):
        """Commit a TRUNCATE now; return what lands it, which may be called late: its record has no key and an order of its own."""
        lsn, sent_ms = self._commit("t")
        self.sent.truncates[table].append((self.place, at_ms))
        document = {"op": "t", "before": None, "after": None, "source": {"ts_ms": at_ms, "lsn": lsn, "txId": 8, "snapshot": "false"}}
        rows, topic = [(None, json.dumps(document).encode())], f"{names.CDC_PREFIX}.public.{table}"
        return lambda: self._send(names.LANDING_CDC, rows, topic, decode.debezium, partition=2, at_ms=sent_ms)

    def entries(self, *entries):
        values = [ItemCatalogueEntry(**{k: v for k, v in e.items() if k != "updated_at"}, updated_at_ms=e["updated_at"]).SerializeToString() for e in entries]
        self._send(names.LANDING_CATALOGUE, [(b"k", v) for v in values], names.TOPIC_ITEM_CATALOGUE, decode.catalogue_items)
        self.sent.catalogue += entries

    def load(self, rows):
        path = self.folder / f"export-{len(self.sent.bulk)}.parquet"
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.set_column(table.column_names.index("as_of"), "as_of", table["as_of"].cast(pa.timestamp("ms", "UTC"))), path)
        for _ in range(2):  # the same export again changes nothing
            profiles.load(URL, path)
        self.sent.bulk += rows


def _user(user, **other):
    return {
        "user_id": user, "age": 20 + user, "gender": "F" if user % 2 else "M", "occupation": "writer", "zip_code": "1", "country": "DE",
        "preferred_genre": None, **other,
    }


def _item(item, **other):
    return {"item_id": item, "title": f"Film {item}", "release_year": 1990 + item, "genres": ["Drama", f"G{item % 3}"], "is_active": True, **other}


def _entry(item, at, **other):
    return {"item_id": item, "title": f"Film {item}", "genres": ["Comedy", f"C{item % 2}"], "release_year": 1980 + item, "is_active": True, "catalogue_version": 1, "updated_at": at, **other}


def before_the_views(source):
    now, day = source.now_ms, recompute.DAY_MS
    for user in USERS:
        source.change("users", "r" if user % 2 else "c", _user(user), now - 5000)
    for item in ITEMS:
        source.change("items", "c", _item(item), now - 4000)
    source.change("items", "u", _item(2, title="Renamed", release_year=None), now - 3000)
    source.change("users", "d", _user(14), now - 2000)
    source.load([_user(u, age=1, as_of=now - 60_000) for u in (1, 2, 14, 50, 51)])  # 1 and 2 lose to CDC, 14 stays deleted
    source.entries(*[_entry(i, now - 1000) for i in ITEMS if i % 3])
    events = [source.event(source.random.choice(USERS), source.random.choice(ITEMS), source.random.randrange(2, 50) * MINUTE_MS) for _ in range(150)]
    events += [source.event(user, item, source.random.randrange(2, 30) * day, "rate") for user in USERS for item in ITEMS if source.random.random() < 0.8]
    source.random.shuffle(events)
    source.events(events, noise=(b"{", b'{"schema_version": 1}'))


def while_the_views_stand(source):
    now = source.now_ms
    at = now - 7 * MINUTE_MS
    ties = [source.event(1, item, 7 * MINUTE_MS, "click", "tie", event_id=f"tie-{n}") for n, item in enumerate((3, 9, 4, 9))]
    source.events(ties[2:] + ties[:2])
    source.events([source.event(3, 1 + n % 18, (130 - n) * 1000 + at % 1, "view", "long") for n in range(130)])  # past the 100 of the recent lists, all of one session
    # History of 150 days in one insert: more days than one insert may touch partitions.
    source.events([source.event(5, 1 + n % 18, n * recompute.DAY_MS + 90 * MINUTE_MS) for n in range(150)])
    source.events([source.event(2, 5, 30 * MINUTE_MS)])  # late
    source.change("users", "u", _user(1, age=77, country="FR", preferred_genre="Drama"), now)
    source.change("users", "d", _user(4), now + 1)
    source.change("users", "c", _user(14, age=15), now + 2)  # there again
    source.rename("users", _user(6), 600, now + 2)
    source.rename("items", _item(8), 80, now + 2)
    source.change("items", "d", _item(6), now + 3)
    source.change("items", "u", _item(3, is_active=False), now + 4)  # 3 has no catalogue entry
    source.load([_user(u, age=2, as_of=now + 10) for u in (1, 4, 50)])  # newer than the CDC changes, and loses all the same
    source.entries(_entry(4, now + 5, genres=[], release_year=0, catalogue_version=2), _entry(5, now + 6, genres=["War"], catalogue_version=2))
    source.replay()


def after_all_that(source):
    source.events([source.event(source.random.choice(USERS), source.random.choice(ITEMS), source.random.randrange(2, 40) * MINUTE_MS) for _ in range(60)])
    source.change("items", "c", _item(6, title="Back"), source.now_ms + 10)
    source.change("users", "u", _user(50, age=50), source.now_ms + 11)  # was of the bulk load only
    source.replay()
    source.client.execute("OPTIMIZE TABLE staging.stg_users FINAL")  # older versions are merged away
    source.client.execute("OPTIMIZE TABLE staging.stg_items FINAL")


def truncated_and_filled_again(source):
    """Each table is emptied and filled again within a transaction (one commit time), and the truncate lands after the rows that came after it."""
    at = source.now_ms + 20
    land = [source.truncate(table, at) for table in ("users", "items")]
    source.change("users", "c", _user(2, age=31), at)
    source.change("users", "r", _user(7, age=32), at)  # an incremental snapshot after it
    source.change("users", "c", _user(9), at)
    source.change("users", "d", _user(9), at + 1)
    for item in ITEMS[::2]:
        source.change("items", "c", _item(item, title="Anew"), at)
    source.load([_user(61, age=3, as_of=at - 1), _user(62, age=4, as_of=at + 1), _user(3, age=5, as_of=at + 1)])  # 62 stands; 3 loses to its truncated change
    for landing in land:
        landing()
    source.replay()


def _rows(client, sql):
    text = client.execute(f"{sql} SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow")
    return [json.loads(line) for line in text.splitlines()]


def _mart(client, function):
    keys = recompute.KEYS[function]
    found, now_ms, began = {}, 0, time.monotonic()
    described = [line.split("\t")[:2] for line in client.execute(f"DESCRIBE TABLE marts.{function.__name__}").splitlines()]
    columns = ", ".join(f"toUnixTimestamp64Milli({n}) AS {n}" if t.startswith("DateTime64") else f"toInt64({n}) AS {n}" if t == "Date" else n for n, t in described)
    for row in _rows(client, f"SELECT {columns}, toUnixTimestamp64Milli(now64(3)) AS asked_ms FROM marts.{function.__name__}"):
        now_ms = row.pop("asked_ms")
        key = tuple(row.pop(k) for k in keys)
        key = key if len(keys) > 1 else key[0]
        assert key not in found, f"{function.__name__}: {key} is there twice"
        found[key] = row
    return found, now_ms, (time.monotonic() - began) * 1000


def _close(a, b, rel_tol):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_close(x, y, rel_tol) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=rel_tol, abs_tol=1e-9)
    return a == b


def differences(found, owed, rel_tol=1e-5):
    """Return every difference as text, so that a failure says which row of which mart."""
    out = [f"{k}: missing" for k in owed.keys() - found.keys()] + [f"{k}: not owed" for k in found.keys() - owed.keys()]
    for key in owed.keys() & found.keys():
        assert owed[key].keys() == found[key].keys()
        out += [f"{key}.{c}: {found[key][c]} for {owed[key][c]}" for c in owed[key] if not _close(found[key][c], owed[key][c], rel_tol)]
    return out


def _environment(home):
    return engine.environment(home, PORT)


def _counts(client):
    return {t: client.execute(f"SELECT count() FROM staging.{t}").strip() for t in STAGED}


def _doubled(client):
    """Return the event ids that stand more than once, as weir.chaos.oracle counts: without FINAL."""
    return set(client.execute("SELECT event_id FROM staging.int_user_events GROUP BY event_id HAVING count() > 1").split())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with engine.running(tmp_path_factory.mktemp("clickhouse"), PORT):
        yield


@pytest.fixture(scope="module")
def stack(gateway, tmp_path_factory, dbt):
    """The landing tables hold rows, and an insert runs, when the first build makes the views."""
    home = tmp_path_factory.mktemp("home")
    schema.apply(URL)
    client = ClickHouse(URL)
    source = Source(client, home)
    before_the_views(source)
    source.before = frozenset(source.sent.events)
    slow_client = ClickHouse(URL)
    slow = threading.Thread(target=slow_client.execute, args=(SLOW,), kwargs={"at": source.now_ms - 20 * MINUTE_MS})
    slow.start()
    for n in range(SLOW_ROWS):
        event_id = f"slow-{n:03}"
        source.sent.events[event_id] = {
            "event_id": event_id, "user_id": 99, "item_id": 1 + n % 5, "event_type": "view", "rating": None, "session_id": "slow", "country": "SE",
            "occurred_at": source.now_ms - 20 * MINUTE_MS + n,
        }
    result = build.build(_environment(home), NO_UNIT_TESTS, dbt=dbt)
    slow.join()
    slow_client.close()
    yield source, home, result
    client.close()


@pytest.fixture(scope="module")
def first(stack):
    """What each table of staging held after the first build, and each mart's differences."""
    source, _, _ = stack
    return _counts(source.client), _compare_all(source)


def _compare_all(source):
    return {function.__name__: _differences_of(source, function) for function in recompute.KEYS}


def _differences_of(source, function):
    found, now_ms, took_ms = _mart(source.client, function)
    owed = function(source.sent, now_ms) if function in recompute.WINDOWED else function(source.sent)
    assert owed, f"{function.__name__}: nothing is owed, so nothing is shown"
    # The clock is read twice within the query, by the mart and beside it: a decayed score may be off by what it loses while the query runs.
    return differences(found, owed, 1e-5 + math.log(2) * took_ms / recompute.HALF_LIFE_MS)


def test_the_first_build_loses_and_doubles_nothing_of_what_landed_before_and_meanwhile(stack, first):
    source, _, _ = stack
    counts, _ = first
    assert counts["int_user_events"] == str(len(source.sent.events))
    assert _doubled(source.client) == set()


@pytest.mark.parametrize("mart", [f.__name__ for f in recompute.KEYS])
def test_a_mart_is_its_recompute_after_the_first_build(first, mart):
    assert first[1][mart] == []


def test_building_again_changes_no_count(stack, first, dbt):
    source, home, _ = stack
    before = _counts(source.client)
    build.build(_environment(home), ["--select", "staging", "intermediate"], dbt=dbt)
    assert _counts(source.client) == before


@pytest.fixture(scope="module")
def second(stack, first, dbt):
    source, home, _ = stack
    while_the_views_stand(source)
    build.build(_environment(home), ["--exclude-resource-type", "test", "unit_test"], dbt=dbt)
    return _compare_all(source), _counts(source.client)


@pytest.mark.parametrize("mart", [f.__name__ for f in recompute.KEYS])
def test_a_mart_is_its_recompute_after_ties_late_rows_updates_deletes_and_a_replay(second, mart):
    assert second[0][mart] == []


@pytest.fixture(scope="module")
def third(stack, second, dbt):
    source, home, _ = stack
    after_all_that(source)
    before = _counts(source.client)
    source.client.execute("ALTER TABLE staging.stg_users MODIFY COMMENT ''")  # as if killed before it was marked: caught up again
    build.build(_environment(home), ["--exclude-resource-type", "test", "unit_test"], dbt=dbt)
    return _compare_all(source), before, _counts(source.client)


def test_without_final_a_replay_doubles_nothing_that_landed_while_the_view_stood(stack, second):
    """What landed before has no token in the target's window: its replay is the same key again, which FINAL reads once."""
    source, _, _ = stack
    assert _doubled(source.client) <= source.before


@pytest.mark.parametrize("mart", [f.__name__ for f in recompute.KEYS])
def test_a_mart_is_its_recompute_after_rows_come_back(third, mart):
    assert third[0][mart] == []


def test_catching_up_again_brings_no_version_back_that_was_merged_away(third):
    assert third[2] == third[1]


@pytest.fixture(scope="module")
def fourth(stack, third, dbt):
    source, home, _ = stack
    truncated_and_filled_again(source)
    live = {f.__name__: _differences_of(source, f) for f in (recompute.user_profile, recompute.item_catalogue)}
    build.build(_environment(home), ["--exclude-resource-type", "test", "unit_test"], dbt=dbt)
    return live, _compare_all(source)


@pytest.mark.parametrize("mart", ["user_profile", "item_catalogue"])
def test_a_truncate_takes_what_was_before_it_and_nothing_after_without_a_build(fourth, mart):
    assert fourth[0][mart] == []


@pytest.mark.parametrize("mart", [f.__name__ for f in recompute.KEYS])
def test_a_mart_is_its_recompute_after_a_truncate_that_landed_late(fourth, mart):
    assert fourth[1][mart] == []


def _sums(rows):
    out = defaultdict(float)
    for user, item, weight in zip(rows.users.tolist(), rows.items.tolist(), rows.weights.tolist(), strict=True):
        out[user, item] += weight
    return out


def test_a_model_is_judged_by_the_weights_that_it_is_fitted_on(stack, fourth):
    """Each user's and item's weights in what is split by time add up to what the exported factors are fitted on."""
    client = training.connect(URL)
    judged, fitted = (_sums(training.read(client, sql)) for sql in (training.events_sql(), training.MATRIX_SQL))
    client.close()
    assert any(weight % 1 for weight in fitted.values()), "no rating below five, so nothing is shown"
    assert judged.keys() == fitted.keys()
    assert {k: (judged[k], fitted[k]) for k in fitted if not math.isclose(judged[k], fitted[k], rel_tol=1e-5)} == {}


def test_reconciliation_recomputes_the_marts_of_captured_tables_alike_and_tells_a_wrong_row(stack, fourth):
    client, sink = stack[0].client, Sink(URL)
    for table in cdc.CDC_TABLES.values():
        for view in online.views_of(table.name):
            cycle = MartCycle(table, view, sink)
            count, found = cycle.compare((None, None))
            halves = [cycle.compare(between)[0] for between in ((None, 3), (3, None))]
            assert (min(halves) > 0, sum(halves), found) == (True, count, []), view.name
            key = client.execute(f"SELECT max({view.entity}) FROM {cycle.name}").strip()
            right = client.execute(f"SELECT as_select FROM system.tables WHERE database = 'marts' AND name = '{view.mart}' FORMAT TSVRaw")
            client.execute(f"CREATE OR REPLACE VIEW {cycle.name} AS SELECT * FROM ({right}) WHERE {view.entity} != {key}")
            assert [(d.key, d.kind) for d in cycle.compare((None, None))[1]] == [((key,), "missing")]
            client.execute(f"CREATE OR REPLACE VIEW {cycle.name} AS {right}")
    sink.close()


class Online:
    """The online store in memory: what is there by view."""

    def __init__(self, **there):
        self.there, self.mark = there, ""

    def entities(self, view):
        return set(self.there.get(view.name, ()))

    def write(self, view, rows, version_ms):
        self.there.setdefault(view.name, set()).update(r.entity for r in rows)
        return len(rows)

    def delete(self, view, entities, version_ms):
        there = self.there.setdefault(view.name, set())
        there -= set(entities)
        return len(set(entities))

    def watermark(self, name):
        return self.mark

    def set_watermark(self, name, text):
        self.mark = text


def test_a_truncate_takes_the_features_of_keys_that_no_record_names(stack, fourth):
    source, _, _ = stack
    store = Online(user_profile={1, 2, 700}, item_catalogue={1, 2, 900}, user_history={1, 2, 99})  # 700, 900: of an earlier time, in no landing row
    materializer = Materializer(Marts(URL), store, setup("test", otlp_url=""))
    materializer.tick()
    assert store.there["user_profile"] == set(recompute.user_profile(source.sent))
    assert store.there["item_catalogue"] == set(recompute.item_catalogue(source.sent))
    standing, known = set(recompute.user_profile(source.sent)), {key for _, key, _, _ in source.sent.changes["users"]} | {r["user_id"] for r in source.sent.bulk}
    assert store.there["user_history"] == {u for u in recompute.user_history(source.sent) if u in standing or u not in known}
    assert 99 in store.there["user_history"]  # has events, and was never in the shop's table


def test_a_view_that_was_dropped_is_caught_up_by_the_next_build(stack, fourth, dbt):
    source, home, _ = stack
    before = _doubled(source.client)
    source.client.execute("DROP VIEW staging.int_user_events_mv SYNC")
    source.events([source.event(1, 2, 3 * MINUTE_MS, event_id="unseen")])
    build.build(_environment(home), ["--select", "int_user_events"], dbt=dbt)
    assert source.client.execute("SELECT count() FROM staging.int_user_events WHERE event_id = 'unseen'") == "1\n"
    assert _doubled(source.client) <= before


@pytest.mark.parametrize("view", FEATURE_VIEWS, ids=lambda v: v.name)
def test_a_feature_views_mart_has_exactly_the_contracts_columns(stack, view):
    described = stack[0].client.execute(f"DESCRIBE TABLE marts.{view.mart}")
    found = dict(line.split("\t")[:2] for line in described.splitlines())
    entity = "String" if view.entity == "country" else "Int64"
    owed = {view.entity: entity, **{n: COLUMN_TYPE[t] for n, t in view.features}, "event_timestamp": "DateTime64(3, \\'UTC\\')"}
    assert found == owed


def _over_a_probe(client, mart):
    """Return the mart's query over an empty table in place of the events', which is there until it is dropped."""
    client.execute("CREATE TABLE IF NOT EXISTS staging.probe AS staging.int_user_events")
    view = client.execute(f"SHOW CREATE VIEW marts.{mart} FORMAT TabSeparatedRaw").replace("staging.int_user_events", "staging.probe")
    return view[re.search(r"\bAS\s+(?=WITH|SELECT)", view).end() :]


def test_of_more_seen_items_than_the_bound_those_seen_last_are_kept_each_once(stack):
    client, items = stack[0].client, SEEN_MAX + 3
    query = _over_a_probe(client, "user_seen")
    client.execute(
        "INSERT INTO staging.probe (user_id, occurred_at, produced_at, event_id, item_id) "
        f"SELECT 1, toDateTime64('2026-01-01', 3, 'UTC') + number, now64(3), toString(number), number % {items} FROM numbers({items + 1})"  # item 0 again at the end
    )
    rows = _rows(client, f"SELECT user_id, item_ids FROM ({query})")
    client.execute("DROP TABLE staging.probe SYNC")
    assert rows == [{"user_id": 1, "item_ids": [0, *range(items - 1, 3, -1)]}]
    assert len(rows[0]["item_ids"]) == SEEN_MAX


@pytest.mark.parametrize("mart", ["user_activity", "user_seen"])
def test_a_users_view_reads_only_the_asked_users_granules(stack, third, mart):
    source, _, _ = stack
    query = _over_a_probe(source.client, mart)
    source.client.execute("INSERT INTO staging.probe (user_id, occurred_at, produced_at, event_id, item_id) SELECT 1 + intDiv(number, 20), now64(3), now64(3), toString(number), 1 FROM numbers(200000)")
    plan = source.client.execute(f"EXPLAIN indexes = 1 SELECT * FROM ({query}) WHERE user_id IN (17, 4000)")
    source.client.execute("DROP TABLE staging.probe SYNC")
    granules = [line.split(":")[1].strip(" │") for line in plan[plan.index("PrimaryKey") :].splitlines() if "Granules:" in line]
    read, of = map(int, granules[0].split("/"))
    assert of >= 20
    assert read <= 4
