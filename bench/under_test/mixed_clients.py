"""The clients of the soak, each of one kind: writers, light and heavy readers, DDL, people who leave, KILL QUERY, sessions, and those who may not.

In: a `Soak`. Out: threads. Keep: what a client does to a table of its own it holds to a count at each step; a table that several use is changed only in ways that a
real server answers without an error.
"""

from __future__ import annotations

import gzip
import threading
import time
import uuid

from under_test.mixed import BUCKETS, Client, RefusedError, Soak, WrongAnswerError, batch

WINDOW = "non_replicated_deduplication_window = 10000"
SHOWN_ROWS = 1000
TABLES = (
    "CREATE DATABASE soak ENGINE = Atomic",
    "CREATE DATABASE closed ENGINE = Atomic",
    f"CREATE TABLE soak.events (w UInt16, b UInt32, r UInt32, k UInt16, v Int64) ENGINE = MergeTree ORDER BY (k, w, b, r) SETTINGS {WINDOW}",
    f"CREATE TABLE soak.by_key (k UInt16, n UInt64, total Int64) ENGINE = SummingMergeTree ORDER BY k SETTINGS {WINDOW}",
    f"CREATE TABLE soak.by_bucket (bucket UInt8, n UInt64, total Int64) ENGINE = SummingMergeTree ORDER BY bucket SETTINGS {WINDOW}",
    "CREATE MATERIALIZED VIEW soak.by_key_mv TO soak.by_key AS SELECT k, count() AS n, sum(v) AS total FROM soak.events GROUP BY k",
    f"CREATE MATERIALIZED VIEW soak.by_bucket_mv TO soak.by_bucket AS SELECT toUInt8(k % {BUCKETS}) AS bucket, sum(n) AS n, sum(total) AS total FROM soak.by_key GROUP BY bucket",
    "CREATE TABLE soak.shown (version UInt32, a UInt32) ENGINE = MergeTree ORDER BY a",
    f"INSERT INTO soak.shown SELECT 0, number FROM numbers({SHOWN_ROWS})",
    "CREATE TABLE closed.t (a UInt8) ENGINE = MergeTree ORDER BY a",
)
ROLES = """
[roles.admin]
admin = true
[roles.writer]
grants = ["INSERT, SELECT, SHOW ON soak.*"]
[roles.reader]
grants = ["SELECT, SHOW ON soak.*"]
[roles.analyst]
grants = ["SELECT, SHOW ON soak.*", "CREATE TEMPORARY TABLE ON *.*"]
[roles.builder]
grants = ["SELECT, INSERT, ALTER, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE, SHOW ON soak.*"]
"""
USERS = ("admin", "writer", "reader", "analyst", "builder")
ENDLESS = "SELECT count() FROM numbers(10000000000000) WHERE cityHash64(number) % 7 = 8"


class Writer(Client):
    """Inserts batches under tokens; some twice, some after a client that left in its upload or before its answer."""

    kind, user, pause_s = "insert", "writer", 0.3

    def __init__(self, soak: Soak, number: int) -> None:
        super().__init__(soak, number)
        self._batch = 0

    def turn(self) -> None:
        """Insert one batch, and count it when that was acknowledged."""
        rows = batch(self.number, self._batch, self.random.randint(100, 4000))
        body, token, way = rows.tobytes(), f"{self.number}-{self._batch}", self.random.random()
        self._batch += 1
        if way < 0.1:  # left in the upload, or before the answer
            self.http.send(self._sql(), body, {"insert_deduplication_token": token}, {}, share=0.5 if way < 0.05 else 1)
            self.http.leave()
            self.soak.journal.refused(self.kind, "left")
        for attempt in range(2 if way > 0.95 else 1):
            self._insert(body, token, first=attempt == 0)
        self.soak.oracle.add(rows)

    @staticmethod
    def _sql() -> str:
        return "INSERT INTO soak.events (w, b, r, k, v) FORMAT RowBinary"

    def _insert(self, body: bytes, token: str, *, first: bool) -> None:
        """Insert until it was acknowledged; an error counts, whatever comes of it."""
        for attempt in range(5):
            try:
                self.ask(self._sql(), body, insert_deduplication_token=token)
            except Exception as error:  # noqa: BLE001 - repeated under its token, as ingest does
                self.soak.journal.failed(self.kind if first else "insert again", error)
                time.sleep(0.2 * (attempt + 1))
            else:
                return
        raise WrongAnswerError(f"the batch {token} was not acknowledged: what the tables must hold is unknown")


class Light(Client):
    """Asks what costs nearly nothing; its times are what the slices show."""

    kind, pause_s = "light", 0.04

    def turn(self) -> None:
        """Ask for a literal, for one key, or for a table that is exchanged under it."""
        way = self.random.randrange(3)
        if way == 0:
            n = self.random.randrange(1 << 30)
            self.expect(str(n), f"SELECT {n}", light=True)
        elif way == 1:
            self.ask(f"SELECT sum(n), sum(total) FROM soak.by_key WHERE k = {self.random.randrange(1000)}", light=True)
        else:
            self.expect(f"{SHOWN_ROWS}\t1", "SELECT count(), uniqExact(version) FROM soak.shown", light=True)


class Heavy(Client):
    """Takes every core for a second or two."""

    kind, user, pause_s = "heavy", "analyst", 1.0

    def turn(self) -> None:
        """Hash a lot of numbers, or go through everything that was inserted."""
        n = self.random.randrange(1 << 30)
        if n % 2:
            self.ask(f"SELECT sum(cityHash64(number, number + {n})) FROM numbers_mt(150000000)")
        else:
            self.ask(f"SELECT k, count(), uniq(b), quantile(0.9)(v) FROM soak.events WHERE v != {n % 100} GROUP BY k ORDER BY k FORMAT JSON")


class Hog(Client):
    """Wants more memory than a query may have."""

    kind, user, pause_s = "too much memory", "analyst", 10.0

    def turn(self) -> None:
        """Fail alone."""
        self.ask("SELECT length(groupArray(number)) FROM numbers(1000000000)", asked="241", max_memory_usage="200000000")


class Long(Client):
    """Reads long answers, streamed and by file, plain and compressed."""

    kind, user, pause_s = "long answer", "analyst", 3.0

    def turn(self) -> None:
        """Read one and count its rows."""
        rows = self.random.randint(10_000, 1_000_000)
        sql = f"SELECT number, toString(number) FROM numbers({rows}) FORMAT "
        way = self.random.randrange(4)
        if way == 0:
            found = (self.ask(sql + "TabSeparated") or b"").count(b"\n")
        elif way == 1:
            coded = self.ask(sql + "JSONEachRow", headers={"Accept-Encoding": "gzip"}, enable_http_compression="1") or b""
            found = gzip.decompress(coded).count(b"\n")
        elif way == 2:
            found = (self.ask(sql + "CSVWithNames") or b"").count(b"\n") - 1
        else:
            found = rows if (self.ask(sql + "Parquet") or b"").endswith(b"PAR1") else 0
        if found != rows:
            raise WrongAnswerError(f"{found} rows of {rows}")


class Leaver(Client):
    """Closes its connection while a query runs, or in the middle of an answer."""

    kind, user, pause_s = "left", "reader", 2.0

    def turn(self) -> None:
        """Ask, and go."""
        if self.random.random() < 0.5:
            self.http.send(ENDLESS, b"", {}, {})
            time.sleep(self.random.uniform(0, 1.0))
        else:
            answer = self.http.send("SELECT number, randomPrintableASCII(100) FROM system.numbers", b"", {}, {}).getresponse()
            answer.read(self.random.randint(1, 5_000_000))
        self.http.leave()
        self.soak.journal.refused(self.kind, "left")


class Killer(Client):
    """Ends a query by its id."""

    kind, user, pause_s = "kill", "admin", 3.0

    def turn(self) -> None:
        """Start one that never ends, end it, and see it end with 394."""
        query_id, errors = f"victim-{uuid.uuid4()}", []  # type: str, list[Exception]

        def victim() -> None:
            try:
                self.ask(ENDLESS, asked="394", http=self.another("reader"), query_id=query_id)
            except Exception as error:  # noqa: BLE001 - told by the turn
                errors.append(error)

        thread = threading.Thread(target=victim)
        thread.start()
        while thread.is_alive():
            self.ask(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
            thread.join(0.2)
        if errors:
            raise errors[0]


class Guest(Client):
    """Keeps a session with temporary tables and settings; sometimes finds it locked."""

    kind, user, pause_s = "session", "analyst", 1.0

    def turn(self) -> None:
        """Open, fill, ask, and close it."""
        session = {"session_id": f"s-{uuid.uuid4()}", "session_timeout": "30"}
        rows = self.random.randint(1, 5000)
        self.ask("CREATE TEMPORARY TABLE mine (a UInt32)", **session)
        self.ask("INSERT INTO mine FORMAT TabSeparated", b"".join(b"%d\n" % n for n in range(rows)), **session)
        self.ask("SET max_threads = 1", **session)
        self.expect(f"{rows}\t{rows * (rows - 1) // 2}\t1", "SELECT count(), sum(a), getSetting('max_threads') FROM mine", **session)
        if self.random.random() < 0.2:
            self._locked(session)
        self.ask("DROP TEMPORARY TABLE mine", close_session="1", **session)

    def _locked(self, session: dict[str, str]) -> None:
        """Ask in the session while it is in use: 373, unless the other one ended before."""
        other = self.another(self.user)
        waiting = other.send("SELECT sleep(0.5)", b"", session, {})
        time.sleep(0.1)
        try:
            self.ask("SELECT 1", **session)
        except RefusedError as error:
            if error.code != "373":
                raise
            self.soak.journal.refused(self.kind, error.code)
        waiting.getresponse().read()
        other.leave()


class Swapper(Client):
    """Exchanges a table under those who read it."""

    kind, user, pause_s = "exchange", "builder", 4.0

    def __init__(self, soak: Soak, number: int = 0) -> None:
        super().__init__(soak, number)
        self._version = 0

    def turn(self) -> None:
        """Make the next version beside it and swap; the one before last goes."""
        self._version += 1
        self.ask("DROP TABLE IF EXISTS soak.shown_next SYNC")
        self.ask("CREATE TABLE soak.shown_next AS soak.shown")
        self.ask(f"INSERT INTO soak.shown_next SELECT {self._version}, number FROM numbers({SHOWN_ROWS})")
        self.ask("EXCHANGE TABLES soak.shown AND soak.shown_next")
        self.soak.stop.wait(2)  # readers that named the old one have ended before it goes


class Alterer(Client):
    """Changes the columns of the table that the writers fill."""

    kind, user, pause_s = "alter", "builder", 5.0

    def turn(self) -> None:
        """Add a column, read it, drop it."""
        self.ask("ALTER TABLE soak.events ADD COLUMN IF NOT EXISTS extra UInt8 DEFAULT 7")
        self.expect("7\t7", "SELECT min(extra), max(extra) FROM (SELECT extra FROM soak.events LIMIT 1000 UNION ALL SELECT toUInt8(7))")
        self.ask("ALTER TABLE soak.events DROP COLUMN extra")


class Builder(Client):
    """Makes tables and views of its own, fills, mutates, renames and drops them."""

    kind, user, pause_s = "ddl", "builder", 2.0

    def turn(self) -> None:
        """Go through the life of a table, counting at each step."""
        table = f"soak.own_{self.number}"
        for name in ("_mv", "_sums", "", "_renamed"):
            self.ask(f"DROP TABLE IF EXISTS {table}{name} SYNC")
        self.ask(f"CREATE TABLE {table} (a UInt32, s String) ENGINE = MergeTree ORDER BY a")
        self.ask(f"CREATE TABLE {table}_sums (k UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY k")
        self.ask(f"CREATE MATERIALIZED VIEW {table}_mv TO {table}_sums AS SELECT toUInt8(a % 3) AS k, count() AS n FROM {table} GROUP BY k")
        rows = self.random.randint(100, 20_000)
        self.ask(f"INSERT INTO {table} SELECT number, toString(number) FROM numbers({rows})")
        self.expect(f"{rows}\t{rows}", f"SELECT (SELECT count() FROM {table}), (SELECT sum(n) FROM {table}_sums)")
        self.ask(f"ALTER TABLE {table} DELETE WHERE a % 2 = 1", mutations_sync="1")
        self.expect(str((rows + 1) // 2), f"SELECT count() FROM {table}")
        self.ask(f"ALTER TABLE {table} ADD COLUMN c UInt8 DEFAULT 1, MODIFY COLUMN s LowCardinality(String)")
        self.ask(f"DROP VIEW {table}_mv SYNC")
        self.ask(f"RENAME TABLE {table} TO {table}_renamed")
        self.expect(str((rows + 1) // 2), f"SELECT sum(c) FROM {table}_renamed")
        self.ask(f"TRUNCATE TABLE {table}_renamed")
        self.expect("0", f"SELECT count() FROM {table}_renamed")


class Intruder(Client):
    """Asks for what its role may not see, and for what does not exist."""

    kind, user, pause_s = "forbidden", "reader", 1.0

    def turn(self) -> None:
        """Be refused each time."""
        self.ask("SELECT * FROM closed.t", asked="497")
        self.ask("DROP TABLE soak.events", asked="497")
        self.ask("SELECT FROM WHERE", asked="62")
        self.ask("SELECT * FROM soak.nowhere", asked="60")


class Crowd(Client):
    """More clients at once than the gateway has slots."""

    kind, user, pause_s = "crowd", "reader", 20.0
    SIZE = 40

    def turn(self) -> None:
        """Let all of them ask for a second of one thread's work."""
        errors: list[Exception] = []

        def one(n: int) -> None:
            http = self.another(self.user)
            try:
                self.ask(f"SELECT sum(cityHash64(number, {n})) FROM numbers(20000000) SETTINGS max_threads = 1", http=http)
            except Exception as error:  # noqa: BLE001 - told by the turn
                errors.append(error)
            http.leave()

        threads = [threading.Thread(target=one, args=(n,)) for n in range(self.SIZE)]
        self.soak.journal.crowded = True
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.soak.journal.crowded = False
        if errors:
            raise errors[0]


CLIENTS: tuple[tuple[type[Client], int], ...] = (
    (Writer, 3), (Light, 2), (Heavy, 2), (Hog, 1), (Long, 1), (Leaver, 2), (Killer, 1), (Guest, 2), (Swapper, 1), (Alterer, 1), (Builder, 1), (Intruder, 1), (Crowd, 1),
)  # fmt: skip
