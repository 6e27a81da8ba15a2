"""Users: each may do what its role says, whatever way it asks. The suite of attempts runs as a reader and as a builder of views."""
import subprocess
import sys
import threading

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from tests.contract.gateway_server import ROOT, Server, wait_until

from weir.gateway import access, accounts, config

PASSWORD = "a:b ü"
ROLES = """
[roles.admin]
admin = true
[roles.reader]
grants = ["SELECT, SHOW ON open.*", "CREATE TEMPORARY TABLE ON *.*"]
[roles.writer]
grants = ["SELECT, INSERT, SHOW ON open.*"]
[roles.builder]
grants = ["SELECT, INSERT, ALTER, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE, SHOW ON open.*", "CREATE TEMPORARY TABLE ON *.*"]
defines_views = true
[roles.limited]
grants = ["SELECT ON open.*"]
quota = {interval_s = 86400, queries = 4}
[roles.frugal]
grants = ["SELECT ON open.*"]
quota = {interval_s = 86400, read_rows = 1000}
"""
USERS = ("admin", "reader", "writer", "builder", "limited", "frugal")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    hashed = accounts.hashed(PASSWORD)
    (folder / "roles.toml").write_text(ROLES)
    (folder / "users.toml").write_text("".join(f'[users.{u}]\nrole = "{u}"\npassword_scrypt = "{hashed}"\n' for u in USERS))
    (folder / "outside.txt").write_text("a secret of this machine")
    server = Server(folder / "data", "--users", str(folder / "roles.toml"), "--users", str(folder / "users.toml")).start()
    server.outside, server.folder = folder / "outside.txt", folder
    for sql in (
        "CREATE DATABASE open ENGINE = Atomic",
        "CREATE DATABASE closed ENGINE = Atomic",
        "CREATE TABLE open.t (a UInt64) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE open.sink (a String) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE open.target (a UInt64) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE closed.t (a UInt64, hidden String) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE closed.fed (a UInt64) ENGINE = MergeTree ORDER BY a",
        "INSERT INTO open.t SELECT number FROM numbers(10)",
        "INSERT INTO closed.t SELECT 4711, 'a hidden row'",
        "CREATE VIEW open.over AS SELECT * FROM closed.t",
        "CREATE VIEW open.over_over AS SELECT * FROM open.over",
        "CREATE VIEW open.given AS SELECT * FROM closed.t WHERE a = {x:UInt64}",
        "CREATE DICTIONARY closed.d (a UInt64, hidden String) PRIMARY KEY a SOURCE(CLICKHOUSE(QUERY 'SELECT a, hidden FROM closed.t')) LAYOUT(FLAT()) LIFETIME(0)",
        "CREATE TABLE closed.j (a UInt64, hidden String) ENGINE = Join(ANY, LEFT, a)",
        "CREATE MATERIALIZED VIEW closed.feeding TO closed.fed AS SELECT a FROM open.t",
    ):
        assert ask(server, "admin", sql).status_code == 200, sql
    yield server
    assert server.stop() == 0


def ask(server, user, sql, body=b"", files=None, **url):
    return httpx.post(server.url, params={"query": sql, **url}, content=None if files else body, files=files, auth=httpx.BasicAuth(user, PASSWORD), timeout=60)


def code(answer):
    return answer.headers.get("X-ClickHouse-Exception-Code")


# --- who asks -------------------------------------------------------------------------------------------------------------------------


def test_a_password_comes_by_basic_headers_or_url_and_a_wrong_one_is_answered_as_by_the_server(server):
    name, key = "X-ClickHouse-User", "X-ClickHouse-Key"
    for ask_it in (
        {"auth": httpx.BasicAuth("reader", PASSWORD)},
        {"headers": {name: b"reader", key: PASSWORD.encode("latin-1")}},
        {"params": {"user": "reader", "password": PASSWORD}},
    ):
        assert httpx.post(server.url, content="SELECT 1", **ask_it).text == "1\n", ask_it
    for ask_it in (
        {},
        {"auth": ("reader", "wrong")},
        {"auth": ("nobody", PASSWORD)},
        {"auth": ("default", "")},
        {"headers": {name: "reader"}},
        {"params": {"user": "reader", "password": "x"}},
        {"auth": httpx.BasicAuth("reader", PASSWORD), "headers": {name: "reader"}},
    ):
        answer = httpx.post(server.url, content="SELECT 1", **ask_it)
        assert (answer.status_code, code(answer)) == (403, "516"), ask_it
        assert "AUTHENTICATION_FAILED" in answer.text
        assert PASSWORD not in answer.text
    assert httpx.get(f"{server.url}/ping").text == "Ok.\n"


def test_a_real_client_is_its_user(server):
    with clickhouse_connect.get_client(port=server.port, username="reader", password=PASSWORD) as client:
        assert client.query("SELECT count() FROM open.t").result_rows[0][0] >= 10
        with pytest.raises(DatabaseError, match="reader: Not enough privileges"):
            client.query("SELECT * FROM closed.t")


def test_a_session_is_its_users_own(server):
    assert ask(server, "reader", "CREATE TEMPORARY TABLE mine (a UInt8)", session_id="s").status_code == 200
    assert ask(server, "reader", "SELECT count() FROM mine", session_id="s").text == "0\n"
    assert ask(server, "builder", "SELECT count() FROM mine", session_id="s").status_code != 200
    assert code(ask(server, "admin", "SELECT 1", session_id="s", session_check="1")) == "372"
    assert code(ask(server, "reader", "SELECT * FROM closed.t", session_id="s")) == "497"
    assert code(ask(server, "reader", "SET ROLE admin", session_id="s")) == "497"


# --- what a role may do ---------------------------------------------------------------------------------------------------------------


def test_what_a_role_has_it_may_use(server):
    for user, sql in [
        ("reader", "SELECT count() FROM open.t"),
        ("reader", "WITH x AS (SELECT a FROM open.t) SELECT count() FROM x WHERE a IN (SELECT a FROM open.t)"),
        ("reader", "SELECT * FROM values('a UInt8, b String', (1, 'x'), (2, 'y'))"),
        ("reader", "SELECT * FROM values((1, 'x'), (2, 'y'))"),
        ("reader", "SELECT count() FROM merge('open', '^t$')"),
        ("reader", "SELECT * FROM numbers(3)"),
        ("reader", "SELECT 1 AS role, 'SET ROLE', '\\'' -- definer"),
        ("reader", "EXPLAIN SELECT * FROM open.t"),
        ("reader", "SHOW TABLES FROM open"),
        ("reader", "SELECT name FROM system.columns WHERE database = 'open'"),
        ("reader", "SELECT 1 SETTINGS max_threads = 1, join_use_nulls = 1"),
        ("writer", "INSERT INTO open.t VALUES (11), (12)"),
        ("writer", "INSERT INTO open.t VALUES (13);"),
        ("writer", "INSERT INTO open.sink VALUES ('a;b, file(x)')"),
        ("writer", "INSERT INTO open.t SELECT a FROM open.t"),
        ("builder", "CREATE VIEW open.mine AS SELECT a FROM open.t"),
        ("builder", "CREATE TABLE open.copy ENGINE = MergeTree ORDER BY a AS SELECT * FROM open.t"),
        ("builder", "CREATE MATERIALIZED VIEW open.refreshed REFRESH EVERY 1 HOUR ENGINE = MergeTree ORDER BY a AS SELECT a FROM open.t"),
        ("admin", "SELECT * FROM closed.t"),
        ("admin", "INSERT INTO open.t VALUES (1 + 1)"),
    ]:
        answer = ask(server, user, sql)
        assert answer.status_code == 200, (user, sql, answer.text)
    assert ask(server, "writer", "INSERT INTO open.t FORMAT JSONEachRow", b'{"a": 20}').status_code == 200
    assert ask(server, "reader", "SELECT count() FROM ext", files={"ext": ("f", b"1\n2\n")}, ext_structure="a UInt8").text == "2\n"
    assert int(ask(server, "admin", "SELECT count() FROM closed.fed").text) > 3  # a view feeds where its writer may not
    assert "DEFINER = builder" in ask(server, "admin", "SHOW CREATE TABLE open.refreshed").text


ATTEMPTS = """
SELECT * FROM closed.t
SELECT count() FROM closed.t
SELECT hidden FROM closed . t
SELECT * FROM closed/**/./**/t -- open.t
SELECT * FROM `closed`.`t`
SELECT * FROM "clo\\x73ed"."t"
SELECT * FROM open.over
SELECT * FROM open.over_over
SELECT * FROM open.given(x = 4711)
SELECT * FROM view(SELECT * FROM closed.t)
SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM closed.t))
SELECT * FROM merge('closed', '.*')
SELECT hidden FROM merge(REGEXP('.*'), '^t$')
SELECT * FROM loop(closed.t)
SELECT * FROM mergeTreeIndex('closed', 't')
SELECT * FROM remote('127.0.0.1', closed.t)
SELECT * FROM remoteSecure('127.0.0.1', closed.t)
SELECT * FROM cluster('default', closed.t)
SELECT * FROM clusterAllReplicas('default', closed.t)
SELECT (SELECT hidden FROM closed.t)
SELECT 1 WHERE 4711 IN closed.t
SELECT 1 WHERE (4711, 'a hidden row') IN (SELECT * FROM closed.t)
WITH x AS (SELECT * FROM closed.t) SELECT * FROM x
SELECT * FROM open.t JOIN closed.t USING a
SELECT * FROM open.t UNION ALL SELECT a FROM closed.t
SELECT * FROM open.t WHERE a = (SELECT max(a) FROM closed.t)
SELECT dictGet('closed.d', 'hidden', toUInt64(4711))
SELECT * FROM dictionary('closed.d')
SELECT * FROM closed.d
SELECT joinGet('closed.j', 'hidden', toUInt64(4711))
SELECT hasColumnInTable('closed', 't', 'hidden')
EXPLAIN SELECT * FROM closed.t
EXPLAIN PLAN SELECT * FROM closed.t
EXPLAIN PIPELINE SELECT * FROM closed.t
EXPLAIN ESTIMATE SELECT * FROM closed.t
EXPLAIN QUERY TREE SELECT * FROM closed.t
DESCRIBE closed.t
DESCRIBE (SELECT * FROM closed.t)
SHOW CREATE TABLE closed.t
EXISTS closed.t
CHECK TABLE closed.t
SELECT a FROM open.t SETTINGS additional_table_filters = {'open.t': 'a IN (SELECT a FROM closed.t)'}
SELECT 1 SETTINGS additional_result_filter = 'file(\\'OUTSIDE\\') = \\'\\''
SELECT * FROM eval('SELECT * FROM closed.t') SETTINGS allow_experimental_eval_table_function = 1
SELECT 1; SELECT * FROM closed.t
SELECT 1 UNION ALL SELECT 2; SET ROLE admin; SELECT * FROM closed.t
SET ROLE admin
set/**/role/**/admin
SET ROLE ALL
SET ROLE DEFAULT
SET ROLE engine
SET DEFAULT ROLE admin TO default
EXECUTE AS default SELECT * FROM closed.t
GRANT admin TO default
GRANT SELECT ON closed.* TO reader
CREATE USER mallory
CREATE ROLE mallory
ALTER USER default IDENTIFIED BY 'x'
SELECT * FROM system.users
SELECT * FROM system.grants
SET dialect = 'kusto'
SELECT 1 SETTINGS dialect = 'prql'
SELECT file('OUTSIDE')
SELECT `file`('OUTSIDE')
SELECT "f\\x69le"('OUTSIDE')
SELECT file/**/('OUTSIDE')
SELECT arrayMap(file, ['OUTSIDE'])
SELECT arrayMap(x -> file(x), ['OUTSIDE'])
SELECT (SELECT file('OUTSIDE'))
WITH f AS (SELECT file('OUTSIDE') AS x) SELECT x FROM f
SELECT * FROM values('a UInt8, b String ALIAS file(\\'OUTSIDE\\')', 1)
SELECT b FROM generateRandom('a UInt8, b String ALIAS file(\\'OUTSIDE\\')') LIMIT 1
SELECT b FROM generateRandom(concat('a UInt8, b String ALI', 'AS fi', 'le(\\'OUTSIDE\\')')) LIMIT 1
SELECT b FROM "generateR\\x61ndom"(concat('a UInt8, b String ALI', 'AS fi', 'le(\\'OUTSIDE\\')')) LIMIT 1
SELECT * FROM format('JSONEachRow', 'a UInt8, b String DEFAULT file(\\'OUTSIDE\\')', '{"a":1}')
SELECT * FROM format(Values, 'a String', '(file(\\'OUTSIDE\\'))')
SELECT * FROM file('OUTSIDE', 'LineAsString', 'a String')
SELECT * FROM fileCluster('default', 'OUTSIDE', 'LineAsString', 'a String')
SELECT * FROM default.`OUTSIDE`
SELECT * FROM `OUTSIDE`
DESCRIBE TABLE file('OUTSIDE')
SELECT * FROM filesystem('FOLDER')
SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'a String')
SELECT * FROM s3('http://127.0.0.1:1/bucket/x', NOSIGN, 'LineAsString', 'a String')
SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')
SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')
SELECT * FROM mongodb('127.0.0.1:1', 'd', 't', 'u', 'p', 'a String')
SELECT * FROM redis('127.0.0.1:1', 'k', 'k String, v String')
SELECT * FROM sqlite('OUTSIDE', 't')
SELECT * FROM odbc('DSN=x', 't')
SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'TSV', 'a String')
SELECT * FROM iceberg('http://127.0.0.1:1/bucket/x')
SELECT * FROM executable('x.sh', 'TSV', 'a String')
SELECT * FROM Python(server)
SELECT * FROM arrowstream('1')
SELECT 1 INTO OUTFILE 'FOLDER/made.txt'
SELECT 1 INTO/**/OUTFILE 'FOLDER/made.txt'
SELECT \u2018'\u2019 INTO OUTFILE 'FOLDER/made.txt' -- '
SELECT /* /* */ ' */ 1 INTO OUTFILE 'FOLDER/made.txt' -- '
SELECT 1 FORMAT Template SETTINGS format_template_row = 'OUTSIDE'
SELECT 1 FORMAT Protobuf SETTINGS format_schema = 'OUTSIDE:M'
SELECT 1 FORMAT Protobuf SETTINGS format_schema_source = 'query', format_schema = 'SELECT file(\\'OUTSIDE\\')', format_schema_message_name = 'M'
INSERT INTO closed.t VALUES (1, 'x')
INSERT INTO closed.t SELECT 1, 'x'
INSERT INTO open.t SELECT a FROM closed.t
INSERT INTO open.sink SELECT hidden FROM closed.t
INSERT INTO open.sink VALUES (file('OUTSIDE'))
INSERT INTO open.sink VALUES ((SELECT hidden FROM closed.t))
INSERT INTO open.sink SELECT file('OUTSIDE')
INSERT INTO open.sink SETTINGS input_format_values_interpret_expressions = 1 VALUES (file('OUTSIDE'))
INSERT INTO FUNCTION file('FOLDER/made.txt', 'TSV', 'a UInt8') SELECT 1
INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'TSV', 'a UInt8') SELECT 1
INSERT INTO FUNCTION remote('127.0.0.1', closed.t) SELECT 1, 'x'
INSERT INTO open.sink FROM INFILE 'OUTSIDE' FORMAT LineAsString
CREATE VIEW open.x AS SELECT * FROM closed.t
CREATE VIEW open.x SQL SECURITY DEFINER AS SELECT * FROM merge(REGEXP('open|closed'), '^t$')
CREATE VIEW open.x DEFINER = CURRENT_USER SQL SECURITY DEFINER AS SELECT * FROM merge(REGEXP('open|closed'), '^t$')
CREATE VIEW open.x DEFINER = default AS SELECT 1
CREATE VIEW open.x SQL SECURITY NONE AS SELECT 1
ALTER TABLE open.over MODIFY SQL SECURITY DEFINER
CREATE MATERIALIZED VIEW open.x TO open.target AS SELECT a FROM closed.t
CREATE MATERIALIZED VIEW open.x TO closed.fed AS SELECT a FROM open.t
CREATE MATERIALIZED VIEW open.x ENGINE = MergeTree ORDER BY a POPULATE AS SELECT * FROM closed.t
SET default_view_definer = 'default'
CREATE TABLE open.x ENGINE = MergeTree ORDER BY a AS SELECT * FROM closed.t
CREATE TABLE open.x AS closed.t
CREATE TABLE open.x CLONE AS closed.t
CREATE TABLE open.x (a String DEFAULT file('OUTSIDE')) ENGINE = MergeTree ORDER BY tuple()
CREATE TABLE open.x (a String) ENGINE = File(LineAsString, 'OUTSIDE')
CREATE TABLE open.x (a String) ENGINE = URL('http://127.0.0.1:1/', LineAsString)
CREATE TABLE open.x (a UInt64) ENGINE = Distributed('default', 'closed', 't')
CREATE TABLE open.x (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')
CREATE TABLE open.x ENGINE = Alias('closed', 't')
CREATE TEMPORARY TABLE x (a UInt64) ENGINE = Distributed('default', 'closed', 't')
CREATE TEMPORARY TABLE x (a String DEFAULT file('OUTSIDE'))
CREATE DICTIONARY open.x (a UInt64, hidden String) PRIMARY KEY a SOURCE(CLICKHOUSE(QUERY 'SELECT a, hidden FROM closed.t')) LAYOUT(FLAT()) LIFETIME(0)
CREATE FUNCTION reading AS x -> file(x)
CREATE DATABASE mallory
CREATE NAMED COLLECTION x AS a = 1
ATTACH TABLE open.x FROM 'FOLDER' (a UInt8) ENGINE = MergeTree ORDER BY a
ALTER TABLE open.t ATTACH PARTITION tuple() FROM closed.fed
ALTER TABLE open.t REPLACE PARTITION tuple() FROM closed.fed
ALTER TABLE open.t MOVE PARTITION tuple() TO TABLE closed.fed
ALTER TABLE closed.t DELETE WHERE 1
DELETE FROM closed.t WHERE 1
TRUNCATE TABLE closed.t
DROP TABLE closed.t
DROP DATABASE closed
OPTIMIZE TABLE closed.t
RENAME TABLE open.target TO closed.x
EXCHANGE TABLES open.target AND closed.fed
DETACH TABLE closed.t
BACKUP TABLE closed.t TO File('x')
BACKUP DATABASE closed TO File('x')
SYSTEM FLUSH LOGS
SYSTEM RELOAD CONFIG
SYSTEM SHUTDOWN
SYSTEM STOP MERGES closed.t
SELECT 1 SETTINGS log_queries = 0
SELECT addressToSymbol(1)
""".strip().splitlines()


@pytest.mark.parametrize("user", ["reader", "writer", "builder"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_way_leads_around_a_role(server, attempt, user):
    sql = attempt.replace("OUTSIDE", str(server.outside)).replace("FOLDER", str(server.folder))
    answer = ask(server, user, sql)
    assert answer.status_code != 200, answer.text
    assert "a secret of this machine" not in answer.text
    assert "a hidden row" not in answer.text
    assert not (server.folder / "made.txt").exists()
    assert ask(server, "admin", "SELECT count(), any(hidden) FROM closed.t").text == "1\ta hidden row\n"
    assert "secret" not in ask(server, "admin", "SELECT * FROM open.sink").text


@pytest.mark.parametrize("user", ["reader", "builder"])
def test_what_the_engine_tells_of_itself_leaves_out_what_a_role_may_not_know(server, user):
    ask(server, "admin", "SYSTEM FLUSH LOGS")
    for sql in (
        "SELECT count() FROM system.tables WHERE database = 'closed'",
        "SELECT count() FROM system.columns WHERE database = 'closed'",
        "SELECT count() FROM system.parts WHERE database = 'closed'",
        "SELECT count() FROM system.databases WHERE name = 'closed'",
        "SELECT count() FROM information_schema.tables WHERE table_schema = 'closed'",
        "SELECT count() FROM system.processes WHERE user != 'default' OR query NOT LIKE '%of one of mine%'",
        "SELECT count() FROM system.query_log",
        f"SELECT count() FROM system.{config.QUERY_LOG}",
        "SELECT count() FROM merge('system', 'query_log')",
        "SELECT count() FROM system.part_log",
        "SELECT count() FROM system.errors",
    ):
        answer = ask(server, user, sql)  # 636: merge() sees no table that it may read
        assert answer.text == "0\n" or code(answer) in {"497", "60", "636"}, (sql, answer.text)
    assert int(ask(server, "admin", "SELECT count() FROM system.query_log").text) > 0
    assert int(ask(server, "admin", "SELECT count() FROM system.processes").text) > 0


# --- by which name one is known -------------------------------------------------------------------------------------------------------

ENDLESS = "SELECT count() FROM numbers(10000000000000) WHERE cityHash64(number) % 7 = 8"


def test_a_user_is_known_by_the_own_name_in_sql_and_in_the_query_log(server):
    sql = "SELECT currentUser(), USER ( ), current_user(/* x */), session_user(), authenticatedUser(), upper(currentUser()), 'currentUser()', (SELECT user())"
    for user in ("reader", "builder", "admin"):
        assert ask(server, user, sql).text.rstrip("\n").split("\t") == [user] * 5 + [user.upper(), "currentUser()", user]
        assert ask(server, user, "SELECT currentUser()", session_id=f"named-{user}").text == f"{user}\n"
        assert httpx.get(server.url, params={"query": "SELECT currentUser()", "query_id": f"named-{user}"}, auth=httpx.BasicAuth(user, PASSWORD)).text == f"{user}\n"
    assert ask(server, "reader", "SELECT currentUser(), user(), count() FROM numbers(2) GROUP BY currentUser(), user() FORMAT JSONEachRow").json() == {"currentUser()": "reader", "user()": "reader", "count()": 2}
    ask(server, "admin", "SYSTEM FLUSH LOGS")
    logged = ask(server, "admin", "SELECT DISTINCT query_id, user, initial_user FROM system.query_log WHERE query_id LIKE 'named-%' ORDER BY 1")
    assert logged.text == "".join(f"named-{u}\t{u}\t{u}\n" for u in ("admin", "builder", "reader"))


def test_a_view_and_a_default_know_who_asks_not_who_made_them(server):
    for sql in ("CREATE VIEW open.readers AS SELECT count() FROM open.t WHERE currentUser() = 'reader' HAVING count() > 0", "CREATE TABLE open.signed (a UInt8, who String DEFAULT user()) ENGINE = MergeTree ORDER BY a"):
        assert ask(server, "admin", sql).status_code == 200, sql
    assert (ask(server, "reader", "SELECT count() FROM open.readers").text, ask(server, "writer", "SELECT count() FROM open.readers").text) == ("1\n", "0\n")
    assert ask(server, "writer", "INSERT INTO open.signed (a) VALUES (1)").status_code == 200
    assert ask(server, "builder", "INSERT INTO open.signed SELECT 2, currentUser()").status_code == 200
    assert ask(server, "reader", "SELECT a, who FROM open.signed ORDER BY a").text == "1\twriter\n2\tbuilder\n"


def test_a_user_kills_the_own_queries_and_nobody_elses(server):
    for victim, killer, ends in (("reader", "writer", False), ("reader", "reader", True), ("writer", "admin", True)):
        query_id, answers = f"{victim}-by-{killer}", []
        thread = threading.Thread(target=lambda v=victim, q=query_id, a=answers: a.append(ask(server, v, ENDLESS, query_id=q)))
        thread.start()
        assert wait_until(lambda q=query_id: ask(server, "admin", f"SELECT count() FROM system.processes WHERE Settings['chdb_client_name'] = '{q}'").text == "1\n")
        assert ask(server, killer, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT count() FROM numbers(1%'").text == f"{int(ends)}\n"
        killed = ask(server, killer, f"KILL QUERY WHERE query_id = '{query_id}' SYNC")
        assert (killed.status_code, query_id in killed.text or "finished" in killed.text) == (200, ends), killed.text
        if not ends:
            ask(server, "admin", f"KILL QUERY WHERE query_id = '{query_id}' SYNC")
        thread.join(20)
        assert code(answers[0]) == "394"


@pytest.mark.parametrize(
    "sql",
    [
        f"SET {access.USER_TAG} = 'admin'",
        f"SET {access.USER_TAG} = DEFAULT",
        f"SET max_threads = 1, {access.USER_TAG.upper()} = 'admin'",
        f"SELECT currentUser() SETTINGS {access.USER_TAG} = 'admin'",
        f"SELECT currentUser() SETTINGS {access.USER_TAG} = DEFAULT",
        f"SELECT currentUser() SETTINGS `{access.USER_TAG}` = 'admin'",
        "SELECT currentUser() SETTINGS `distributed\\x5fcache_client_id` = 'admin'",
        f"SELECT * FROM (SELECT currentUser() SETTINGS {access.USER_TAG} = 'admin')",
        f"CREATE VIEW open.forged AS SELECT currentUser() SETTINGS {access.USER_TAG} = 'admin'",
        f"KILL QUERY WHERE 1 SETTINGS {access.USER_TAG} = 'admin'",
        f"INSERT INTO open.sink SETTINGS {access.USER_TAG} = 'admin' SELECT currentUser()",
        f"EXPLAIN SELECT 1 SETTINGS {access.USER_TAG} = 'admin'",
    ],
)
def test_nobody_takes_another_ones_name(server, sql):
    for more in ({}, {"session_id": "forger"}):
        answer = ask(server, "builder", sql, **more)
        assert answer.status_code != 200, answer.text
        assert ask(server, "builder", "SELECT currentUser()", **more).text == "builder\n"
    assert ask(server, "reader", "SELECT count() FROM open.sink WHERE a = 'admin'").text == "0\n"


def test_nobody_hides_behind_another_ones_query_id(server):
    for sql in ("SELECT 1 SETTINGS `chdb_client\\x5fname` = 'x'", "SELECT 1 SETTINGS chdb_client_name = 'x'"):
        assert code(ask(server, "reader", sql)) in {"452", "497"}, sql


def test_a_locked_setting_is_not_set_to_its_default_either(server):
    for form in ("VALUES", "FORMAT Values"):
        sql = f"INSERT INTO open.sink SETTINGS input_format_values_interpret_expressions = DEFAULT {form}"
        assert code(ask(server, "writer", sql, f"(file('{server.outside}'))".encode())) == "497"
    assert code(ask(server, "writer", "SET input_format_values_interpret_expressions = DEFAULT", session_id="default")) == "497"


def test_merge_over_everything_gives_only_what_may_be_read(server):
    sql = "SELECT DISTINCT _database FROM merge(REGEXP('.*'), '^t$')"
    assert ask(server, "reader", sql).text == "open\n"
    assert ask(server, "admin", sql + " ORDER BY 1").text == "closed\nopen\n"


def test_a_definers_view_by_merge_shows_its_builder_no_more_than_it_may_see(server):
    assert ask(server, "builder", "CREATE OR REPLACE VIEW open.merged AS SELECT * FROM merge(REGEXP('open|closed'), '^t$')").status_code == 200
    assert "4711" not in ask(server, "builder", "SELECT * FROM open.merged").text
    assert ask(server, "builder", "CREATE TABLE open.merging (a UInt64) ENGINE = Merge(REGEXP('open|closed'), '^t$')").status_code == 200
    assert "4711" not in ask(server, "builder", "SELECT * FROM open.merging").text
    assert ask(server, "builder", "CREATE TABLE open.buffer (a UInt64) ENGINE = Buffer('closed', 'fed', 1, 0, 0, 1, 1, 1, 1)").status_code == 200
    assert code(ask(server, "builder", "SELECT * FROM open.buffer")) == "497"
    assert code(ask(server, "builder", "INSERT INTO open.buffer VALUES (1)")) == "497"


@pytest.mark.parametrize("structure", ["a UInt64) AS SELECT a FROM closed.t --", "a UInt8, b String DEFAULT file('OUTSIDE')", "a UInt8); SET ROLE admin; --", "a UInt8) ENGINE = File(TSV, 'OUTSIDE') --"])
def test_external_data_brings_no_code(server, structure):
    answer = ask(server, "reader", "SELECT * FROM ext", files={"ext": ("f", b"1\n")}, ext_structure=structure.replace("OUTSIDE", str(server.outside)))
    assert answer.status_code != 200
    assert "4711" not in answer.text


@pytest.mark.parametrize("setting", [access.USER_TAG, "default_view_definer", "format_template_row", "input_format_values_interpret_expressions", "additional_result_filter", "url_base"])
def test_settings_in_the_url_are_held_to_the_same(server, setting):
    assert code(ask(server, "reader", "SELECT 1", **{setting: "1"})) in {"497", "452"}


def test_data_with_a_second_statement_behind_it_is_data(server):
    answer = ask(server, "writer", "INSERT INTO open.t VALUES (1); SET ROLE admin; TRUNCATE TABLE closed.t")
    assert ask(server, "admin", "SELECT count() FROM closed.t").text == "1\n", answer.text
    assert ask(server, "writer", "INSERT INTO open.sink FORMAT Values", f"(file('{server.outside}'))".encode()).status_code != 200


def test_users_by_sql_are_answered_clearly(server):
    for sql in ("CREATE USER x", "CREATE ROLE x", "GRANT SELECT ON open.* TO reader", "CREATE QUOTA q", "ALTER USER default IDENTIFIED BY 'x'"):
        answer = ask(server, "admin", sql)
        assert answer.status_code != 200
        assert "they stand in files" in answer.text or code(answer) in {"192", "511"}, answer.text


def test_a_quota_of_queries_and_one_of_rows_end_in_quota_exceeded(server):
    assert [ask(server, "limited", "SELECT 1").status_code for _ in range(4)] == [200] * 4
    answer = ask(server, "limited", "SELECT 1")
    assert code(answer) == "201"
    assert "Quota for user `limited`" in answer.text
    assert ask(server, "frugal", "SELECT count() FROM numbers(5000) WHERE NOT ignore(number)").status_code == 200
    assert code(ask(server, "frugal", "SELECT 1")) == "201"


def test_every_setting_that_holds_text_was_looked_at(server):
    """A new engine may bring one that names a file or holds code: look at it, then lock it in config.py or add it here."""
    found = set(ask(server, "admin", "SELECT name FROM system.settings WHERE type IN ('String', 'Map', 'URI')").text.split())
    harmless = set((ROOT / "tests" / "contract" / "harmless_settings.txt").read_text().split())
    assert found - set(config.LOCKED) - {"default_view_definer"} == harmless


def test_every_table_function_is_known(server):
    """A new engine may bring one that no right covers: try it as a reader, then add it here."""
    found = set(ask(server, "admin", "SELECT name FROM system.table_functions").text.split())
    assert found == set((ROOT / "tests" / "contract" / "known_table_functions.txt").read_text().split())


def test_no_password_is_in_a_log_and_another_address_needs_users(server, tmp_path):
    for sql in ("SYSTEM FLUSH LOGS", "SELECT 1"):
        ask(server, "admin", sql)
    assert ask(server, "admin", f"SELECT count() FROM system.query_log WHERE query LIKE '%{PASSWORD[:3]}%' AND query NOT LIKE '%LIKE%'").text == "0\n"
    done = subprocess.run([sys.executable, "-m", "weir.gateway", "--path", str(tmp_path / "d"), "--port", "1", "--host", "0.0.0.0"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "loopback only" in done.stderr
