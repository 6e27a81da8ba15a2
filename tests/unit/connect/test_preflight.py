"""What is unsafe to capture is refused with the SQL that makes it safe; the contract's names are the connector's."""
import json
from dataclasses import replace
from pathlib import Path

import pytest

from weir.connect.preflight import ServerFacts, TableFacts, judge_server, judge_table
from weir.connect.publication import NAME, OPERATIONS, TABLES, Publication
from weir.contracts import cdc
from weir.contracts.schema import SourceColumn

ROOT = Path(__file__).resolve().parents[3]
ALL = Publication(dict.fromkeys(TABLES, False), frozenset(OPERATIONS))
SERVER = ServerFacts("logical", 7, "", "4096", role_replicates=True, published=ALL)
TABLE = TableFacts("public.orders", exists=True, key=("id",), identity="f", toastable=True, published=True, readable=True)


def test_a_server_and_a_table_that_are_safe_have_no_finding():
    assert judge_server(SERVER) == []
    assert judge_server(replace(SERVER, slot="reserved", slots_free=0)) == []
    assert judge_table(TABLE, published=True) == []
    assert judge_table(replace(TABLE, identity="d", toastable=False), published=True) == []


@pytest.mark.parametrize(("change", "sql"), [
    ({"wal_level": "replica"}, "wal_level = 'logical'"),
    ({"slots_free": 0}, "max_replication_slots"),
    ({"slot": "lost"}, "./weir connector recover"),
    ({"keep_size": "-1"}, "max_slot_wal_keep_size"),
    ({"role_replicates": None}, "CREATE ROLE weir_cdc"),
    ({"role_replicates": False}, "ALTER ROLE weir_cdc WITH REPLICATION"),
    ({"published": None}, "CREATE PUBLICATION weir FOR TABLE public.users, public.items, public.weir_signal, public.weir_heartbeat;"),
    ({"published": replace(ALL, tables={**ALL.tables, "public.users": True})}, "DROP TABLE public.users; ALTER PUBLICATION weir ADD TABLE public.users;"),
    ({"published": replace(ALL, operations=frozenset({"insert", "update"}))}, "SET (publish = 'insert, update, delete, truncate')"),
    ({"published": replace(ALL, operations=frozenset({"insert", "update", "delete"}))}, "SET (publish = 'insert, update, delete, truncate')"),
])
def test_each_fault_of_the_server_is_one_finding_with_its_sql(change, sql):
    (finding,) = judge_server(replace(SERVER, **change))
    assert sql in finding.sql
    assert "\n" not in str(finding)


@pytest.mark.parametrize(("change", "sqls"), [
    ({"exists": False}, ["-- create public.orders first"]),
    ({"kind": "v"}, ["name the tables"]),
    ({"key": ()}, ["ADD PRIMARY KEY"]),
    ({"key": (), "identity": "d"}, ["ADD PRIMARY KEY", "REPLICA IDENTITY FULL"]),
    ({"identity": "n"}, ["REPLICA IDENTITY FULL"]),
    ({"identity": "d"}, ["REPLICA IDENTITY FULL"]),
    ({"published": False}, ["ADD TABLE public.orders"]),
    ({"narrowed": True}, ["DROP TABLE public.orders; ALTER PUBLICATION weir ADD TABLE public.orders;"]),
    ({"kind": "p"}, ["capture those"]),
    ({"below": ("orders_old", "orders_new")}, ["capture those: orders_old, orders_new"]),
    ({"blind": ("shop_owner", "weir_cdc")}, ["ALTER ROLE shop_owner BYPASSRLS;", "ALTER ROLE weir_cdc BYPASSRLS;"]),
    ({"logged": False}, ["ALTER TABLE public.orders SET LOGGED;"]),
    ({"readable": False}, ["GRANT SELECT ON public.orders TO weir_cdc"]),
])
def test_each_fault_of_a_table_is_a_finding_with_its_sql(change, sqls):
    found = judge_table(replace(TABLE, **change), published=True)
    assert len(found) == len(sqls)
    assert all(sql in f.sql for f, sql in zip(found, sqls, strict=True))


def test_a_table_without_a_key_has_two_ways_out_and_each_is_said_with_its_sql():
    (finding,) = judge_table(replace(TABLE, key=()), published=True)
    assert "no primary key" in finding.what
    assert finding.sql == ("ALTER TABLE public.orders ADD PRIMARY KEY (…); -- or ALTER TABLE public.orders REPLICA IDENTITY FULL;"
                           " and ./weir table add public.orders --history keeps its changes instead")


@pytest.mark.parametrize("key", [(), ("id",)])
def test_a_history_needs_no_key_and_the_whole_row_as_it_was(key):
    assert judge_table(replace(TABLE, key=key), published=True, history=True) == []
    for identity in "din":
        (finding,) = judge_table(replace(TABLE, key=key, identity=identity, toastable=False), published=True, history=True)
        assert finding.sql == "ALTER TABLE public.orders REPLICA IDENTITY FULL;"


def test_a_missing_publication_is_told_once_and_not_of_every_table():
    assert judge_table(replace(TABLE, published=False), published=False) == []


@pytest.mark.parametrize(("column", "generated", "sql"), [
    (SourceColumn("c", "name"), True, "ALTER COLUMN c TYPE text USING c::text;"),
    (SourceColumn("c", "enum[]"), True, "ALTER COLUMN c TYPE text[] USING c::text[];"),
    (SourceColumn("c", "int4multirange"), True, "ALTER COLUMN c TYPE text USING c::text;"),
    (SourceColumn("c", "public.pair"), True, "ALTER COLUMN c TYPE jsonb USING to_jsonb(c);"),
    (SourceColumn("c", "numeric(5,-2)"), True, "ALTER COLUMN c TYPE jsonb"),
    (SourceColumn("c", "bigint", generated="s"), False, "ALTER PUBLICATION weir SET (publish_generated_columns = stored);"),
    (SourceColumn("c", "bigint", generated="s"), None, "ALTER COLUMN c DROP EXPRESSION;"),
])
def test_a_column_that_would_not_arrive_is_refused_with_the_sql_that_makes_it(column, generated, sql):
    (finding,) = judge_table(replace(TABLE, columns=(SourceColumn("id", "bigint"), column)), published=True, generated=generated)
    assert sql in finding.sql


@pytest.mark.parametrize("column", [SourceColumn("c", "bigint", generated="s"), SourceColumn("c", "name", generated="v"), SourceColumn("c", "numeric(38,10)[]")])
def test_columns_that_arrive_or_that_never_could_are_no_finding(column):
    assert judge_table(replace(TABLE, columns=(column,)), published=True, generated=True) == []


def test_the_contract_names_what_the_connector_and_the_schema_name():
    connector = json.loads((ROOT / "connect" / "connectors" / "shop.json").read_text())
    assert (connector["slot.name"], connector["publication.name"], connector["database.user"]) == (cdc.SLOT, NAME, cdc.ROLE)
    assert connector["signal.data.collection"] == cdc.SIGNAL_TABLE
    assert connector["table.include.list"].split(",") == [*(t.source for t in cdc.CDC_TABLES.values()), cdc.SIGNAL_TABLE]
    assert {t.topic for t in cdc.CDC_TABLES.values()} == {f"{connector['topic.prefix']}.{t.source}" for t in cdc.CDC_TABLES.values()}
    assert set(TABLES) == {*(t.source for t in cdc.CDC_TABLES.values()), cdc.SIGNAL_TABLE, cdc.HEARTBEAT_TABLE}
    assert cdc.HEARTBEAT_TABLE in connector["heartbeat.action.query"]
