"""The commands and the watcher on captured tables with the register in memory and ClickHouse's engine: what belongs to one table is never another's, and what was killed is done to its end."""
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import chdb
import pytest

from weir.capture import keyed, operate, resync, watch
from weir.connect import connector
from weir.contracts import cdc
from weir.contracts.captured import Captured, State
from weir.contracts.clickhouse import literal
from weir.contracts.endpoints import Endpoints
from weir.contracts.schema import SourceColumn
from weir.errors import ContractViolation, Undecided
from weir.quality.judge import Verdict
from weir.quality.pipeline import judge_captured

COLUMNS = (SourceColumn("id", "bigint", nullable=False, position=1), SourceColumn("note", "text", position=2))
MORE = (*COLUMNS, SourceColumn("more", "integer", position=3))


class Killed(BaseException):
    """The process is no more: nothing after this runs."""


@dataclass
class Clickhouse:
    """A sink on the engine; it is killed before the first statement that begins with `dies`."""

    connection: object
    dies: str = "never"

    def query(self, sql, **parameters):
        for name, value in parameters.items():
            sql = sql.replace(f"{{{name}:String}}", literal(value))
        text = self.connection.query(sql, "TSVRaw").bytes().decode()
        return [tuple(line.split("\t")) for line in text.splitlines()]

    def command(self, sql):
        if sql.startswith(self.dies):
            raise Killed
        self.connection.query(sql)

    def columns(self, table):
        database, name = table.split(".")
        return dict(self.query(f"SELECT name, type FROM system.columns WHERE database = '{database}' AND table = '{name}'"))

    def tables(self):
        return {r[0] for r in self.query("SELECT name FROM system.tables WHERE database = 'captured' AND NOT startsWith(name, 'weir_') AND NOT endsWith(name, '_feed')")}

    def read(self, view):
        """The table that a view reads."""
        return self.query(f"SELECT extract(create_table_query, 'FROM (captured\\.\\S+) FINAL') FROM system.tables WHERE database = 'captured' AND name = '{view}'")[0][0]


@dataclass
class Books:
    """A register in memory."""

    entries: dict = field(default_factory=dict)

    def tables(self):
        return {n: e for n, e in sorted(self.entries.items()) if e.state is not State.REMOVED}

    def write(self, entry):
        self.entries[entry.name] = entry
        return entry

    def held(self, _):
        return ""


def entry(name, **more):
    made = Captured(name, f"public.{name}", State.CAPTURING, COLUMNS, frozenset({"id", "note"}), owned=True, generation=1, barrier=True)
    return replace(made, **more)


@pytest.fixture
def engine():
    connection = chdb.connect(":memory:")
    connection.query("CREATE DATABASE landing ENGINE = Atomic")
    connection.query("CREATE DATABASE captured ENGINE = Atomic")
    connection.query("CREATE TABLE landing.cdc_changes (topic String, op String, key String, before String, after String, version UInt64, is_deleted UInt8, reject_reason String,"
                     " source_lsn Nullable(UInt64), produced_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY version")
    yield Clickhouse(connection)
    connection.close()


@pytest.fixture
def parts(engine, monkeypatch):
    """What a command touches; the source is asked by no test here."""
    made = resync.Parts(Endpoints.local(), engine, None, Books())

    @contextmanager
    def opened(_):
        yield made

    monkeypatch.setattr(operate, "opened", opened)
    return made


@pytest.fixture
def done(monkeypatch):
    """The added tables that Connect was told of, a text each time."""
    asked = []
    monkeypatch.setattr(connector, "wanted", lambda _endpoints, _home, more=(): {"more": ",".join(more)})
    monkeypatch.setattr(connector, "apply", lambda _, target: asked.append(target["more"]))
    return asked


@pytest.fixture
def source(monkeypatch):
    """The columns of every table at the source."""
    columns = [COLUMNS]
    monkeypatch.setattr(watch, "look", lambda _, tables, *_more: {t: watch.Source(columns[0], ("id",)) for t in tables})
    monkeypatch.setattr(resync, "lsn_now", lambda _: 7)
    return columns


def built(parts, *entries):
    """Stand these tables in ClickHouse and in the register."""
    for e in entries:
        for statement in (*keyed.create(e, ("id",)), keyed.show(e)):
            parts.sink.command(statement)
        parts.register.write(e)


NAMES = ("orders", "orders__archive", "orders_", "orders__1x")
EVERY = {n for name in NAMES for n in (name, f"{name}__1")}


def test_what_is_left_of_one_table_is_swept_and_no_copy_of_another(parts):
    built(parts, *(entry(n) for n in NAMES))
    for statement in keyed.create(entry("orders", generation=12), ("id",)):
        parts.sink.command(statement)
    assert parts.sink.tables() == EVERY | {"orders__12"}
    resync.sweep(parts.sink, entry("orders"))
    assert parts.sink.tables() == EVERY


class Postgres:
    """A server on which no table is published any more."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, *_):
        return self

    def fetchone(self):
        return None


@pytest.mark.parametrize("name", ["orders", "orders_"])
def test_a_removed_table_takes_its_own_copies_with_it_and_no_others(parts, done, tmp_path, monkeypatch, name):
    monkeypatch.setattr("psycopg.connect", lambda *_, **__: Postgres())
    built(parts, *(entry(n) for n in NAMES))
    operate.remove(parts.endpoints, tmp_path, name)
    assert parts.sink.tables() == EVERY - {name, f"{name}__1"}
    assert done == [",".join(f"public.{n}" for n in sorted(NAMES) if n != name)]


@pytest.mark.parametrize("name", ["sales.orders", "public.weir_truncates", "public.weir_truncates_feed", "weir.truncates", "public.orders__1", "orders__12_feed", "sales.orders__2"])
def test_a_table_whose_copy_would_have_the_name_of_something_else_is_refused_before_anything_is_done(parts, done, source, tmp_path, monkeypatch, name):
    prepared = []
    monkeypatch.setattr(operate, "_prepared", lambda _, source, **__: prepared.append(source) or (entry("new"), ("id",)))
    built(parts, entry("sales_orders"))
    before = dict(parts.register.entries)
    with pytest.raises(ContractViolation):
        operate.add(parts.endpoints, tmp_path, name, lambda _: None)
    assert (prepared, done, parts.register.entries) == ([], [], before)


def test_a_table_of_another_schema_is_not_taken_for_one_that_dbt_makes(parts, done, tmp_path, monkeypatch):
    monkeypatch.setitem(cdc.CDC_TABLES, "sales_users", cdc.CDC_TABLES["users"])
    with pytest.raises(ContractViolation):
        operate.add(parts.endpoints, tmp_path, "sales.users", lambda _: None)
    assert done == []


@pytest.fixture
def runs(monkeypatch, done):
    """A build of a copy is noted with what the connector was told before."""
    def run(parts, entry, now, key, report, **_):
        done.append(f"{entry.name} is built")
        return parts.register.write(entry.to(State.CAPTURING))

    monkeypatch.setattr(resync, "run", run)
    return done


def watched(parts, home, failed_s=None):
    watch.Watcher(parts, home, home, {} if failed_s is None else failed_s).round(100.0)


KILLED = entry("orders", generation=0)  # as `add` writes it before it tells the connector


def test_an_add_killed_before_the_connector_was_told_is_done_to_its_end_by_the_watcher(parts, runs, source, tmp_path):
    built(parts, entry("zones"))
    parts.register.write(KILLED)
    watched(parts, tmp_path)
    assert runs == ["public.orders,public.zones", "orders is built"]


def test_an_add_killed_while_its_copy_was_built_too(parts, runs, source, tmp_path):
    parts.register.write(KILLED.to(State.RESYNCING))
    watched(parts, tmp_path)
    assert runs == ["public.orders", "orders is built"]


def test_an_add_that_the_watcher_could_not_end_is_tried_again_after_a_minute(parts, runs, source, tmp_path):
    parts.register.write(KILLED)
    watched(parts, tmp_path, {"orders": 100.0 - watch.AGAIN_S + 1})
    assert runs == []
    watched(parts, tmp_path, {"orders": 100.0 - watch.AGAIN_S})
    assert runs == ["public.orders", "orders is built"]


def test_a_resync_tells_the_connector_first_or_no_change_would_ever_come_of_a_table_whose_add_was_killed(parts, runs, source, tmp_path):
    parts.register.write(KILLED)
    operate.resynced(parts.endpoints, tmp_path, "orders", lambda _: None)
    assert runs == ["public.orders", "orders is built"]


def test_a_table_added_last_stands_in_the_connectors_list_where_the_next_command_puts_it(parts, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(operate, "_prepared", lambda *_, **__: (KILLED, ("id",)))
    parts.register.write(entry("zones"))
    operate.add(parts.endpoints, tmp_path, "orders", lambda _: None)
    assert runs == ["public.orders,public.zones", "orders is built"]


def test_an_add_names_the_columns_that_no_comparison_covers_before_the_first_row(parts, runs, tmp_path, monkeypatch):
    told = []
    opens = SourceColumn("opens", "time with time zone", position=3)
    monkeypatch.setattr(operate, "_prepared", lambda *_, as_history: (replace(KILLED, columns=(*COLUMNS, opens)), ("id",)))
    monkeypatch.setattr(operate.resync, "run", lambda *_a, **_k: told.append("first row"))
    operate.add(parts.endpoints, tmp_path, "orders", told.append)
    assert [t for t in told if t == "first row" or "to know" in t] == [told[0], "first row"]
    assert "public.orders.opens of type time with time zone is not compared" in told[0]


def test_a_table_whose_changes_are_lost_is_stopped_at_once_and_flows_again_by_a_whole_copy_only(parts, runs, source, tmp_path, monkeypatch):
    built(parts, entry("orders"))
    lost = ["public.orders is not in publication weir: ALTER PUBLICATION weir ADD TABLE public.orders;"]
    monkeypatch.setattr(watch, "look", lambda _, tables, *_more: {t: watch.Source(COLUMNS, ("id",), tuple(lost)) for t in tables})
    watched(parts, tmp_path)
    stopped = parts.register.entries["orders"]
    assert (stopped.state, stopped.by, lost[0] in stopped.why) == (State.PAUSED, "loss", True)
    assert [c.verdict for c in judge_captured([stopped])] == [Verdict.NO]
    for command in (lambda: operate.resume(parts.endpoints, tmp_path, tmp_path, "orders", accept=False), lambda: operate.resynced(parts.endpoints, tmp_path, "orders", lambda _: None)):
        with pytest.raises(ContractViolation, match="do not come whole"):
            command()
    lost.clear()
    with pytest.raises(ContractViolation, match="lacks changes"):
        operate.resume(parts.endpoints, tmp_path, tmp_path, "orders", accept=False)
    operate.resynced(parts.endpoints, tmp_path, "orders", lambda _: None)
    assert parts.register.entries["orders"].state is State.CAPTURING


def test_a_table_whose_feed_went_with_a_resync_that_did_not_end_well_is_not_resumed_with_a_copy_that_never_changes(parts, source, tmp_path, monkeypatch):
    built(parts, entry("orders").to(State.PAUSED, why="by command", by="operator"))
    monkeypatch.setattr(resync, "_signal", lambda *_: None)
    monkeypatch.setattr(resync, "_await", lambda *_: raising(Undecided("the copy could not be verified")))
    with pytest.raises(Undecided):
        resync.run(parts, parts.register.entries["orders"], COLUMNS, ("id",), lambda _: None)
    assert parts.sink.columns("captured.orders__1_feed") == {}
    with pytest.raises(ContractViolation, match="lacks changes"):
        operate.resume(parts.endpoints, tmp_path, tmp_path, "orders", accept=False)
    assert parts.register.entries["orders"].state is State.PAUSED


def raising(error):
    raise error


def test_a_table_that_flows_is_left_alone_by_the_watcher(parts, runs, source, tmp_path):
    built(parts, entry("orders"))
    watched(parts, tmp_path)
    assert runs == []


def test_tables_that_flow_cost_the_watcher_no_statement_of_definition(parts, runs, source, tmp_path):
    """The gateway looks for every table's logs anew after each, and the watcher comes by every five seconds."""
    built(parts, entry("orders"))
    parts.register.write(entry("users", owned=False))
    parts.sink.dies = ""  # at whatever statement is the first
    watched(parts, tmp_path)
    assert runs == []


def test_what_is_left_beside_a_table_of_dbts_is_swept(parts):
    parts.sink.command("CREATE DATABASE staging ENGINE = Atomic")
    parts.sink.command("CREATE TABLE staging.stg_users__next (id Int64) ENGINE = MergeTree ORDER BY id")
    parts.sink.command("CREATE MATERIALIZED VIEW captured.beside_feed TO staging.stg_users__next AS SELECT version AS id FROM landing.cdc_changes")
    resync.sweep(parts.sink, entry("users", owned=False))
    assert parts.sink.columns("staging.stg_users__next") == parts.sink.columns("captured.beside_feed") == {}


@pytest.mark.parametrize("dies", ["CREATE OR REPLACE VIEW", "DROP TABLE"], ids=["before readers are given the copy", "before the old one goes"])
@pytest.mark.parametrize("paused", [False, True])
def test_readers_are_given_the_copy_whose_resync_was_killed_after_the_register_named_it(parts, source, tmp_path, monkeypatch, dies, paused):
    built(parts, entry("orders"))
    monkeypatch.setattr(resync, "_quick", lambda *_: True)
    monkeypatch.setattr(resync, "_filled", lambda *_, **__: setattr(parts.sink, "dies", dies) or 5)
    with pytest.raises(Killed):
        resync.run(parts, entry("orders"), COLUMNS, ("id",), lambda _: None)
    parts.sink.dies = "never"
    made = parts.register.entries["orders"]
    assert (made.state, made.generation) == (State.CAPTURING, 2)
    if paused:
        parts.register.write(made.to(State.PAUSED, by="operator"))
    watched(parts, tmp_path)
    assert parts.sink.read("orders") == "captured.orders__2"
    assert parts.sink.tables() == {"orders", "orders__2"}


def test_readers_are_given_the_first_copy_whose_add_was_killed_after_the_register_named_it(parts, runs, source, tmp_path):
    for statement in keyed.create(entry("orders"), ("id",)):
        parts.sink.command(statement)
    parts.register.write(entry("orders"))
    watched(parts, tmp_path)
    assert (parts.sink.read("orders"), runs) == ("captured.orders__1", [])


def test_a_resync_killed_while_it_built_a_copy_with_a_new_column_is_swept_and_readers_keep_theirs(parts):
    """The register has the new columns by then, which the copy that is read has not."""
    built(parts, entry("orders"))
    beside = entry("orders", columns=MORE, used=frozenset(c.name for c in MORE), generation=2)
    for statement in keyed.create(beside, ("id",)):
        parts.sink.command(statement)
    resync.sweep(parts.sink, replace(beside, generation=1, state=State.RESYNCING))
    assert parts.sink.read("orders") == "captured.orders__1"
    assert parts.sink.tables() == {"orders", "orders__1"}
