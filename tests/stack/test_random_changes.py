"""Random DDL and DML at the source: the keyed copy has the same rows, value by value, at the LSN where the writing paused. Seeds are printed; WEIR_TEST_SEED takes one.

`./weir test --long` goes WEIR_TEST_ROUNDS rounds, each with a change of columns or a TRUNCATE among its transactions.
"""
import os
import random
import secrets
import sys
import time

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
    "numeric(14,3)": (lambda r: f"{r.randrange(-10**9, 10**9)} * 0.001", "{c}::text", "{c}"),
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
        return f"INSERT INTO {TABLE} (id, n) SELECT i, i FROM generate_series({self.next + 1}, {self.next + 50}) i ON CONFLICT DO NOTHING"

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


def _entry(running):
    import json

    return next(t for t in json.loads(running.weir("table", "list", "--json").stdout) if t["name"] == TABLE)


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
        import json

        if TABLE in {t["name"] for t in json.loads(running.weir("table", "list", "--json").stdout)}:
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
    with psycopg.connect(endpoints.postgres_dsn) as connection:
        for number in range(ROUNDS):
            kind = ("add", "rename", "truncate", "drop")[number % 4]
            changes.transactions(connection, TRANSACTIONS)
            if number % 2 == 0:
                rows.append(_same(table, endpoints, changes, seed))
            sys.stdout.write(f"round {number}: {kind}\n")
            connection.execute(changes.ddl(kind))
            changes.transactions(connection, 1)  # in one transaction with it, or the next
            connection.commit()
            if kind == "add":
                _until(lambda: {c["name"] for c in _entry(table)["columns"] if c["read"]} == {"id", *changes.columns} and _entry(table)["state"] == "capturing")
            elif kind != "truncate":  # a barrier among the rows, and nothing else
                changes.transactions(connection, TRANSACTIONS // 4)
                _after(table)
            rows.append(_same(table, endpoints, changes, seed))
    sys.stdout.write(f"rows compared: {rows}\n")
    assert max(rows) > 30, "nothing was compared"


def _after(running):
    """A change that is not safe stops the table; a resync makes its copy anew, from the columns of now."""
    _until(lambda: _entry(running)["state"] == "paused" or _held(running))
    running.weir("table", "resync", TABLE)
    _until(lambda: _entry(running)["state"] == "capturing")


def _held(running):
    return running.clickhouse(f"SELECT 1 FROM ops.captured_holds WHERE topic = 'shop.public.{TABLE}' LIMIT 1")
