"""What the embedded ClickHouse tells of its own work: logs of queries, parts and views with their retention, slow queries, and what each user cost."""
import re

import httpx
import pytest
from tests.contract.gateway_server import Server

from weir.cost import queries
from weir.errors import Unavailable
from weir.gateway import accounts
from weir.stack.accounts import as_user

PASSWORD = "p"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observed")
    hashed = accounts.hashed(PASSWORD)
    (folder / "users.toml").write_text('[roles.admin]\nadmin = true\n[roles.writer]\ngrants = ["SELECT, INSERT ON d.*"]\n' + "".join(
        f'[users.{user}]\nrole = "{role}"\npassword_scrypt = "{hashed}"\n' for user, role in (("admin", "admin"), ("anna", "writer"), ("bert", "writer"))))
    server = Server(folder / "data", "--users", str(folder / "users.toml")).start()
    for sql in ("CREATE DATABASE d ENGINE = Atomic", "CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a", "CREATE TABLE d.sums (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple()",
                "CREATE MATERIALIZED VIEW d.mv TO d.sums AS SELECT count() AS n FROM d.t"):
        assert ask(server, "admin", sql).status_code == 200
    for _ in range(2):
        assert ask(server, "anna", "INSERT INTO d.t SELECT number FROM numbers(1000)").status_code == 200
    for n in (3, 4):
        assert ask(server, "bert", f"SELECT sum(cityHash64(number)) FROM numbers({n}0000000) WHERE number != 4711{n}").status_code == 200
    assert ask(server, "bert", "SELECT throwIf(1)").status_code != 200
    ask(server, "admin", "OPTIMIZE TABLE d.t FINAL")
    ask(server, "admin", "SYSTEM FLUSH LOGS")
    yield server
    assert server.stop() == 0


def ask(server, user, sql):
    return httpx.post(server.url, content=sql, auth=(user, PASSWORD), timeout=60)


def _rows(server, sql):
    answer = ask(server, "admin", sql)
    assert answer.status_code == 200, answer.text
    return [line.split("\t") for line in answer.text.splitlines()]


def test_the_logs_of_queries_parts_and_views_are_filled_and_kept_for_three_days(server):
    assert _rows(server, "SELECT event_type, sum(rows) FROM system.part_log WHERE database = 'd' AND table = 't' AND event_type != 'MergePartsStart' GROUP BY event_type ORDER BY event_type") == [["NewPart", "2000"], ["MergeParts", "2000"]]
    assert _rows(server, "SELECT view_name, view_target, status, sum(read_rows) FROM system.query_views_log GROUP BY ALL") == [["d.mv", "d.sums", "QueryFinish", "2000"]]
    assert _rows(server, "SELECT count(), sum(written_rows) FROM system.query_log WHERE query_kind = 'Insert' AND type = 'QueryFinish'") == [["2", "2002"]]  # the view's target too
    for table in ("engine_query_log", "part_log", "query_views_log"):
        assert "TTL event_date + toIntervalDay(3)" in ask(server, "admin", f"SHOW CREATE TABLE system.{table}").text


def test_what_each_user_cost_is_told_by_name(server):
    found = {u.user: u for u in queries.by_user(as_user(server.url, "admin", PASSWORD), 1)}
    assert set(found) == {"admin", "anna", "bert"}
    assert (found["anna"].queries, found["anna"].failed, found["anna"].rows_written, found["anna"].rows_read) == (2, 0, 2002, 4000)
    assert (found["bert"].queries, found["bert"].failed, found["bert"].rows_written) == (3, 1, 0)
    assert found["bert"].rows_read >= 69_999_000
    assert found["bert"].cpu_s > found["anna"].cpu_s > 0
    assert found["bert"].bytes_read >= 8 * 69_999_000
    assert found["anna"].bytes_written > 0


def test_slow_queries_are_told_by_form_without_their_literals(server):
    url = as_user(server.url, "admin", PASSWORD)
    slow = queries.slowest(url, 1, 50)
    assert [s.ms_max for s in slow] == sorted((s.ms_max for s in slow), reverse=True)
    hashing = [s for s in slow if "cityHash64" in s.form]
    assert [(s.users, s.queries, s.failed) for s in hashing] == [(("bert",), 2, 0)]
    assert not any("4711" in s.form for s in slow)
    assert _rows(server, f"SELECT count() FROM system.query_log WHERE query_id = '{hashing[0].slowest_query_id}' AND query LIKE '%4711%' AND type = 'QueryFinish'") == [["1"]]
    assert len(queries.slowest(url, 1, 2)) == 2


def test_failed_queries_are_told_by_form_and_error(server):
    url = as_user(server.url, "admin", PASSWORD)
    failing = [f for f in queries.failing(url, 1, 50) if f.users == ("bert",)]
    assert sum(f.queries for f in failing) == sum(s.failed for s in queries.slowest(url, 1, 50) if s.users == ("bert",)) == 1
    assert re.fullmatch(r"[A-Z_]+", failing[0].error)
    assert _rows(server, f"SELECT user, errorCodeToName(exception_code) FROM system.query_log WHERE query_id = '{failing[0].last_query_id}' AND exception_code != 0") == [["bert", failing[0].error]]


def test_who_may_not_see_queries_is_told_nothing_of_them(server):
    url = as_user(server.url, "anna", PASSWORD)
    assert (queries.by_user(url, 1), queries.slowest(url, 1, 5)) == ([], [])


def test_a_wrong_password_is_told_in_a_sentence(server):
    with pytest.raises(Unavailable, match="did not tell of its queries: Code: 516"):
        queries.by_user(as_user(server.url, "anna", "wrong"), 1)


def test_the_logs_outlive_the_gateways_end_and_its_kill(tmp_path):
    server = Server(tmp_path / "data").start()
    logged = "SELECT count() FROM system.query_log WHERE query_id LIKE 'before-%' AND type = 'QueryFinish'"
    try:
        server.text("CREATE DATABASE d ENGINE = Atomic")
        server.text("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
        for n, end in enumerate((server.stop, server.kill, server.stop), 1):
            server.text("INSERT INTO d.t SELECT 1", query_id=f"before-{n}")
            server.text("SYSTEM FLUSH LOGS")
            end()
            server.start()
            assert server.text(logged) == f"{n}\n"
            assert server.text("SELECT count() FROM system.part_log WHERE table = 't' AND event_type = 'NewPart'") == f"{n}\n"
        assert not (tmp_path / "data" / "logs").exists()
    finally:
        server.stop()


def test_a_log_that_cannot_be_attached_is_left_out_and_the_gateway_starts(tmp_path):
    part = tmp_path / "data" / "data" / "data" / "system" / "part_log" / "202611_1_1_0"
    part.mkdir(parents=True)
    (part / "columns.txt").write_text("cut short")
    server = Server(tmp_path / "data").start()
    assert int(server.text("SELECT count() FROM system.part_log")) >= 0
    assert not (tmp_path / "data" / "logs").exists()
    assert server.stop() == 0
