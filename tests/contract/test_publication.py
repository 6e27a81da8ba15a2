"""The publication on a real PostgreSQL server, as if it were somebody's own: widened, or refused with the SQL to run."""
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from weir.capture import watch
from weir.connect import postgres, preflight, publication, register
from weir.contracts.endpoints import Endpoints
from weir.errors import ContractViolation, SettingsError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-services.md"
PORT_BASE = int(os.environ.get("WEIR_TEST_PORT_BASE", "31000")) + 60


@pytest.fixture(scope="module")
def server():
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))  # passable for the server's uid, as pytest's own folders are not
    home.chmod(0o755)
    endpoints = Endpoints.local(PORT_BASE, postgres.read_or_create_password(home))
    postgres.prepare(home, endpoints)
    command = postgres.command(home, endpoints)
    process = subprocess.Popen(
        command.argv, env=dict(command.env), cwd=command.cwd, user=command.uid, group=command.uid, extra_groups=[] if command.uid is not None else None,
        stderr=(home / "server.log").open("w"),
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(endpoints.postgres_dsn.rsplit("/", 1)[0] + "/postgres", connect_timeout=2).close()
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield home, endpoints
    process.terminate()
    process.wait(20)
    shutil.rmtree(home)


@pytest.fixture
def shop(server):
    home, endpoints = server
    register.ensure_database(endpoints, home)
    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
        yield connection
        connection.execute("DROP PUBLICATION IF EXISTS weir")


def test_the_replication_roles_password_opens_the_door_and_never_reaches_the_log(server, shop):
    home, endpoints = server
    shop.execute("ALTER SYSTEM SET log_statement = 'ddl'")
    shop.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while psycopg.connect(endpoints.postgres_dsn).execute("SHOW log_statement").fetchone() != ("ddl",):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    register.ensure_database(endpoints, home)
    log, password = (home / "server.log").read_text(), postgres.read_or_create_secret(home, "cdc")
    assert 'ALTER ROLE "weir_cdc"' in log
    assert password not in log
    psycopg.connect(endpoints.postgres_dsn.replace(f"weir:{postgres.read_or_create_password(home)}", f"weir_cdc:{password}")).close()


def test_a_second_run_changes_nothing(server, shop):
    assert publication.read(shop) == publication.Publication(dict.fromkeys(publication.TABLES, False), frozenset(publication.OPERATIONS), generated=True)
    assert publication.ensure(shop) == []


def test_a_publication_that_lacks_tables_and_operations_is_widened_and_keeps_what_it_had(server, shop):
    shop.execute("CREATE TABLE IF NOT EXISTS public.own (id int PRIMARY KEY)")
    shop.execute("DROP PUBLICATION weir")
    shop.execute("CREATE PUBLICATION weir FOR TABLE public.users, public.own WITH (publish = 'insert')")
    register.ensure_database(server[1], server[0])
    found = publication.read(shop)
    assert set(found.tables) == {*publication.TABLES, "public.own"}
    assert found.operations == set(publication.OPERATIONS)


@pytest.mark.parametrize("clause", ["public.users WHERE (age > 1)", "public.users (user_id, age)", "ALL"])
def test_a_filter_is_refused_with_the_sql_to_run_and_a_publication_of_all_tables_will_do(server, shop, clause):
    shop.execute("DROP PUBLICATION weir")
    if clause == "ALL":
        shop.execute("CREATE PUBLICATION weir FOR ALL TABLES")
        assert publication.ensure(shop) == [publication.GENERATED]
        assert publication.ensure(shop) == []
        return
    shop.execute(f"CREATE PUBLICATION weir FOR TABLE {clause}, public.items, public.weir_signal, public.weir_heartbeat")
    with pytest.raises(ContractViolation) as refused:
        register.ensure_database(server[1], server[0])
    told = refused.value.hint.removeprefix("run as its owner: ")
    shop.execute(told)
    assert publication.narrowed(publication.read(shop)) == []


@pytest.mark.parametrize(("made", "told"), [
    (["CREATE TABLE odd (id int PRIMARY KEY)", "ALTER PUBLICATION weir ADD TABLE odd WHERE (id > 1)"], "leaves rows or columns of public.odd out"),
    (["CREATE TABLE odd (id int PRIMARY KEY, n int)", "ALTER PUBLICATION weir ADD TABLE odd (id)"], "leaves rows or columns of public.odd out"),
    (["CREATE TABLE odd (id int PRIMARY KEY)", "ALTER PUBLICATION weir ADD TABLE odd", "ALTER PUBLICATION weir SET (publish = 'insert, update, delete')"], "leaves out truncate"),
    (["CREATE TABLE odd (id int PRIMARY KEY)", "ALTER PUBLICATION weir ADD TABLE odd", "ALTER TABLE odd ENABLE ROW LEVEL SECURITY"], "row level security hides rows of public.odd from weir_cdc"),
    (["CREATE UNLOGGED TABLE odd (id int PRIMARY KEY)"], "public.odd is unlogged"),
    (["CREATE TABLE odd (id int PRIMARY KEY)"], "public.odd is not in publication weir"),
])
def test_what_would_lose_changes_in_silence_is_found_and_mended_by_the_sql_that_is_told(server, shop, made, told):
    dsn = server[1].postgres_dsn
    shop.execute("DROP TABLE IF EXISTS odd")
    for statement in [*made, "GRANT SELECT ON odd TO weir_cdc"]:
        shop.execute(statement)
    found = [f for f in preflight.examine(dsn, ["public.odd"]) if told in f.what]
    assert len(found) == 1
    shop.execute(found[0].sql)
    assert told not in " ".join(f.what for f in preflight.examine(dsn, ["public.odd"]))
    shop.execute("ALTER ROLE weir_cdc NOBYPASSRLS")
    shop.execute("DROP TABLE odd")


def test_a_captured_table_that_loses_its_changes_is_told_whatever_its_columns_are(server, shop):
    def told():
        return " ".join(watch.look(server[1].postgres_dsn, ["public.users", "public.odd"])["public.odd"].losses)

    shop.execute("CREATE TABLE odd (id int PRIMARY KEY)")
    shop.execute("ALTER PUBLICATION weir ADD TABLE odd")
    assert told() == ""
    shop.execute("ALTER TABLE odd ADD COLUMN story text")
    assert "ALTER TABLE public.odd REPLICA IDENTITY FULL;" in told(), "or a long story that an update leaves alone would come as a placeholder"
    shop.execute("ALTER TABLE odd REPLICA IDENTITY FULL")
    shop.execute("DROP TABLE odd")
    assert told() == "", "what is gone is told by its columns"
    shop.execute("CREATE TABLE odd (id int PRIMARY KEY)")
    assert "ALTER PUBLICATION weir ADD TABLE public.odd;" in told()
    shop.execute("ALTER PUBLICATION weir ADD TABLE odd")
    shop.execute("ALTER PUBLICATION weir SET (publish = 'insert, update, delete')")
    assert "leaves out truncate" in told()
    shop.execute("DROP TABLE odd")


@pytest.mark.parametrize("below", ["PARTITION OF odd DEFAULT", "() INHERITS (odd)"])
def test_a_table_whose_rows_are_published_by_other_names_is_refused_and_named(server, shop, below):
    shop.execute(f"CREATE TABLE odd (id int PRIMARY KEY) {'PARTITION BY RANGE (id)' if below.startswith('P') else ''}")
    shop.execute(f"CREATE TABLE odd_below {below}")
    shop.execute("ALTER PUBLICATION weir ADD TABLE odd")
    published = publication.read(shop).tables
    assert "public.odd_below" in published, "so its changes have another topic"
    told = preflight.examine(server[1].postgres_dsn, ["public.odd"])
    assert [f.sql for f in told] == ["-- capture those: odd_below"]
    shop.execute("DROP TABLE odd CASCADE")


def test_a_role_that_may_not_alter_it_is_told_what_its_owner_should_run(server, shop):
    home, endpoints = server
    shop.execute("DROP PUBLICATION weir")
    shop.execute("CREATE PUBLICATION weir FOR TABLE public.users")
    shop.execute("DROP ROLE IF EXISTS guest")
    shop.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    dsn = endpoints.postgres_dsn.replace(f"weir:{postgres.read_or_create_password(home)}", "guest:guest")
    with psycopg.connect(dsn) as guest, pytest.raises(ContractViolation) as refused:
        publication.ensure(guest)
    shop.execute(refused.value.hint.removeprefix("run as its owner: "))
    with psycopg.connect(dsn) as guest:
        assert publication.ensure(guest) == []  # nor does it need to publish generated columns that no table has
    assert publication.ensure(shop) == [publication.GENERATED]
    with pytest.raises(ContractViolation, match="PostgreSQL refused to set up the shop"):
        register.ensure_database(replace(endpoints, postgres_dsn=dsn), home)


def test_a_role_with_the_guides_rights_alone_sets_up_its_database_and_one_with_fewer_is_told_which_it_lacks(server, shop):
    home, endpoints = server
    rights = re.search(r"CREATE ROLE shop_owner WITH (.+) PASSWORD", GUIDE.read_text())[1]
    shop.execute("DROP OWNED BY weir_cdc")  # made by the administrator, so nobody else may alter it
    shop.execute("DROP ROLE weir_cdc")
    shop.execute("CREATE ROLE keeper WITH LOGIN CREATEROLE PASSWORD 'keeper'")
    shop.execute("CREATE DATABASE kept OWNER keeper")
    own = replace(endpoints, postgres_dsn=endpoints.postgres_dsn.rsplit("/", 1)[0].replace(f"weir:{postgres.read_or_create_password(home)}", "keeper:keeper") + "/kept")
    try:
        with pytest.raises(ContractViolation, match=r"permission denied to create role.*WITH CREATEROLE REPLICATION"):
            register.ensure_database(own, home)
        shop.execute(f"ALTER ROLE keeper WITH {rights}")
        for _ in range(2):
            register.ensure_database(own, home)
        with psycopg.connect(own.postgres_dsn) as kept:
            assert set(publication.read(kept).tables) == set(publication.TABLES)
    finally:
        shop.execute("DROP DATABASE kept")
        shop.execute("DROP ROLE IF EXISTS weir_cdc")
        shop.execute("DROP ROLE keeper")


def test_a_server_without_logical_replication_is_told_with_the_sql(server, shop, monkeypatch):
    real = psycopg.Connection.execute
    monkeypatch.setattr(psycopg.Connection, "execute", lambda c, q, *a, **k: real(c, "SELECT 'replica'" if q == "SHOW wal_level" else q, *a, **k))
    with pytest.raises(ContractViolation, match=r"wal_level is replica.*ALTER SYSTEM SET wal_level"):
        register.ensure_database(server[1], server[0])


def test_a_closed_folder_on_the_way_is_named(server, monkeypatch):
    home, _ = server
    monkeypatch.setattr(postgres, "server_uid", lambda: 65534)
    postgres.check_passable(home)
    home.chmod(0o700)
    try:
        with pytest.raises(SettingsError, match=f"cannot pass {home} on the way to WEIR_HOME"):
            postgres.check_passable(home)
    finally:
        home.chmod(0o755)
