"""Random DDL and DML at the source: the keyed copy has the same rows, value by value, at the LSN where the writing paused. Seeds are printed; WEIR_TEST_SEED takes one.

`./weir test --long` goes WEIR_TEST_ROUNDS rounds, each with a change of columns or a TRUNCATE among its transactions; writing goes on while a copy is made anew.
What continuous reconciliation repaired would hide a loss, so it must have found nothing.
"""
import json
import os
import random
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from weir.reconcile.progress import Progress
from weir.reconcile.source import Source

pytestmark = [pytest.mark.stack, pytest.mark.long]
TABLE = "random_changes"
ROUNDS = int(os.environ.get("WEIR_TEST_ROUNDS", "4"))
TRANSACTIONS = 40
WAIT_S = 120
TYPES = {  # type: (a value as SQL, read at the source, read in ClickHouse)
    "bigint": (lambda r: str(r.choice([0, -1, 2**62, r.randrange(10**6)])), "{c}", "{c}"),
    "text": (lambda r: r.choice(["''", "'ä\U0001f600'", f"'{r.randrange(10**6)}'", f"repeat(md5('{r.random()}'), 400)"]), "{c}", "{c}"),
    "numeric(14,3)": (lambda r: f"{r.randrange(-10**9, 10**9)} * 0.001", "{c}", "{c}"),  # both read a Decimal
    "boolean": (lambda r: r.choice(["true", "false"]), "{c}", "{c}"),
    "timestamptz": (lambda r: f"to_timestamp({r.randrange(2 * 10**9)}.123456)", "(extract(epoch FROM {c}) * 1000000)::bigint", "toUnixTimestamp64Micro({c})"),
    "uuid": (lambda r: f"'{r.getrandbits(128):032x}'::uuid", "{c}::text", "toString({c})"),
    "jsonb": (lambda r: f"""'{{"a": {r.randrange(9)}, "b": null}}'::jsonb""", "{c}::text", "{c}"),
}


class Changes:
    """Makes statements; knows the columns as they are and which keys there may be."""

    def __init__(self, seed):
        self.r, self.next = random.Random(seed), 1  # noqa: S311 - a seed makes the same changes again
        self.columns, self.made = {"n": "bigint", "body": "text", "amount": "numeric(14,3)"}, 3

    def value(self, kind):
        return "NULL" if self.r.random() < 0.15 else TYPES[kind][0](self.r)

    def row(self):
        self.next += self.r.choice([1, 1, 1, 7])
        return f"INSERT INTO {TABLE} (id, {', '.join(self.columns)}) VALUES ({self.next}, {', '.join(map(self.value, self.columns.values()))})"

    def key(self):
        return self.r.randrange(1, self.next + 1)

    def rows(self):
        whole = [c for c, kind in self.columns.items() if kind == "bigint"]
        return f"INSERT INTO {TABLE} ({', '.join(['id', *whole])}) SELECT {', '.join(['i'] * (1 + len(whole)))} FROM generate_series({self.next + 1}, {self.next + 50}) i"

    def statement(self):
        kind = self.r.choices(["insert", "update", "delete", "key", "many", "untouched", "bulk"], [8, 8, 3, 2, 1, 3, 1])[0]
        column = self.r.choice(list(self.columns))
        if kind == "insert":
            return self.row()
        if kind == "bulk":
            statement, self.next = self.rows(), self.next + 50
            return statement
        if kind == "update":
            return f"UPDATE {TABLE} SET {column} = {self.value(self.columns[column])} WHERE id = {self.key()}"
        if kind == "untouched":  # the long value of `body` is not sent by the server when it does not change
            small = [c for c in self.columns if self.columns[c] != "text"] or [column]
            return f"UPDATE {TABLE} SET {small[0]} = {self.value(self.columns[small[0]])} WHERE id % 5 = {self.r.randrange(5)}"
        if kind == "delete":
            return f"DELETE FROM {TABLE} WHERE id = {self.key()}"
        if kind == "many":
            return f"DELETE FROM {TABLE} WHERE id % 11 = {self.r.randrange(11)}"
        self.next += 1
        return f"UPDATE {TABLE} SET id = {self.next} WHERE id = {self.key()}"

    def ddl(self, kind):
        if kind == "truncate":
            return f"TRUNCATE {TABLE}"
        self.made += 1
        new, old = f"c{self.made}", self.r.choice(list(self.columns))
        if kind == "add":
            self.columns[new] = self.r.choice(list(TYPES))
            return f"ALTER TABLE {TABLE} ADD COLUMN {new} {self.columns[new]} DEFAULT {TYPES[self.columns[new]][0](self.r)}"
        if kind == "drop" and len(self.columns) > 2:
            del self.columns[old]
            return f"ALTER TABLE {TABLE} DROP COLUMN {old}"
        self.columns[new] = self.columns.pop(old)
        return f"ALTER TABLE {TABLE} RENAME COLUMN {old} TO {new}"

    def transactions(self, connection, count):
        for _ in range(count):
            for _ in range(self.r.choice([1, 1, 2, 5, 20])):
                connection.execute(self.statement())
            if self.r.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()

    def change(self, connection, kind):
        """DDL with statements before and after it, in one transaction or in two."""
        for _ in range(self.r.choice([0, 5])):
            connection.execute(self.statement())
        connection.execute(self.ddl(kind))
        if self.r.random() < 0.5:
            connection.commit()
        for _ in range(self.r.choice([0, 5])):
            connection.execute(self.statement())
        connection.commit()


def _tables(running):
    return {t["name"]: t for t in json.loads(running.weir("table", "list", "--json").stdout)}


def _until(what, seconds=WAIT_S):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.5)
    return found


def _same(running, endpoints, changes, seed):
    """Wait until all up to now has landed, then compare every value once."""
    source, progress = Source(endpoints.postgres_dsn), Progress(endpoints.kafka_bootstrap)
    topic, deadline = f"shop.public.{TABLE}", time.monotonic() + WAIT_S
    try:
        with source.snapshot() as snapshot:
            source.wait_published(snapshot.lsn, deadline)
            progress.wait_landed(topic, progress.ends(topic), deadline)
            kinds = {"id": "bigint", **changes.columns}
            there = snapshot.connection.execute(f"SELECT {', '.join(TYPES[k][1].format(c=c) for c, k in kinds.items())} FROM {TABLE} ORDER BY id").fetchall()
    finally:
        progress.close()
    here = running.clickhouse(f"SELECT {', '.join(TYPES[k][2].format(c=c) for c, k in kinds.items())} FROM captured.{TABLE} ORDER BY id")
    differ = [(a, b) for a, b in zip(there, here, strict=False) if tuple(a) != tuple(b)]
    assert (len(here), differ[:3]) == (len(there), []), f"seed {seed}"
    return len(there)


@pytest.fixture
def table(running, endpoints):
    def gone(connection):
        if TABLE in _tables(running):
            running.weir("table", "remove", TABLE)
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")

    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
        gone(connection)
        connection.execute(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, n bigint, body text, amount numeric(14,3))")
        connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL")
        running.weir("table", "add", f"public.{TABLE}")
        yield running
        gone(connection)


def test_the_keyed_copy_is_the_source_at_an_lsn_after_random_changes(table, endpoints):
    seed = int(os.environ.get("WEIR_TEST_SEED") or secrets.randbits(32))
    sys.stdout.write(f"seed {seed}: WEIR_TEST_SEED={seed} makes these changes again\n")
    changes, rows = Changes(seed), []
    began = table.clickhouse("SELECT toString(now64(3))")[0][0]
    with psycopg.connect(endpoints.postgres_dsn) as connection:
        for number in range(ROUNDS):
            kind = ("add", "rename", "truncate", "drop")[number % 4]
            changes.transactions(connection, TRANSACTIONS)
            if number % 2 == 0:
                rows.append(_same(table, endpoints, changes, seed))
            since = table.clickhouse("SELECT toString(now64(6))")[0][0]
            changes.change(connection, kind)
            sys.stdout.write(f"round {number}: {kind}, {changes.columns}\n")
            if kind == "add":
                _while_writing(changes, connection, lambda: _until(lambda: _reads(table, changes)))
            elif kind != "truncate":  # a barrier among the rows, and nothing else
                _while_writing(changes, connection, lambda since=since: _until(lambda: _stopped(table, since)))
                _while_writing(changes, connection, lambda: table.weir("table", "resync", TABLE))  # a copy made anew, from the columns of now
                assert _reads(table, changes)
            rows.append(_same(table, endpoints, changes, seed))
    sys.stdout.write(f"rows compared: {rows}\n")
    assert max(rows) > 30, "nothing was compared"
    found = table.clickhouse(f"SELECT key, kind, state FROM ops.reconcile_findings WHERE name = '{TABLE}' AND at >= toDateTime64('{began}', 3, 'UTC')")
    assert found == [], f"seed {seed}: continuous reconciliation found what differed, or thought so"


def _reads(running, changes):
    entry = _tables(running)[TABLE]
    return entry["state"] == "capturing" and {c["name"] for c in entry["columns"] if c["read"]} == {"id", *changes.columns}


def _stopped(running, since):
    """A change that is not safe stops the table: by the catalogue, or by the first row that does not fit."""
    held = running.clickhouse(f"SELECT 1 FROM ops.captured_holds WHERE topic = 'shop.public.{TABLE}' AND at > toDateTime64('{since}', 6, 'UTC') LIMIT 1")
    return held or _tables(running)[TABLE]["state"] == "paused"


def _while_writing(changes, connection, act):
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        while not done.done():
            changes.transactions(connection, 1)
            time.sleep(0.2)
        return done.result()
