"""`weir.transform.deploy` with dbt itself, each with the rights that it has on a stack: ingest lands, dbt builds, an administrator deploys."""
import shutil

import httpx
import pytest
from tests.contract import gateway_server
from tests.contract.gateway_server import ROOT

from weir.errors import ServiceFailed
from weir.ingest import schema
from weir.stack import accounts
from weir.transform import build
from weir.transform.deploy import Deploy
from weir.transform.session import Session
from weir.transform.warehouse import Warehouse


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    found, passwords = gateway_server.guarded(tmp_path_factory.mktemp("guarded"))
    found.known = {user: (user, password) for user, password in passwords.items()}
    schema.apply(accounts.as_user(found.url, "ingest", passwords["ingest"]))
    yield found
    assert found.stop() == 0


def _asked(guarded, user, sql):
    answer = httpx.post(guarded.url, content=sql, auth=guarded.known[user], timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout, one for all, so that dbt parses again only what a test has changed."""
    made = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "dbt", made / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    return made


@pytest.fixture(scope="module")
def dbt():
    with Session() as found:
        yield found.run


@pytest.fixture
def project(guarded, checkout, monkeypatch, dbt):
    """The checkout as it was, its staging of events built; (a model's file, which may be changed, what dbt runs in, what deploys)."""
    path = checkout / "dbt" / "models" / "intermediate" / "int_user_events.sql"
    shutil.copyfile(ROOT / path.relative_to(checkout), path)
    monkeypatch.setattr(build, "ROOT", checkout)
    environment = {"WEIR_HOME": str(checkout / "home"), "CLICKHOUSE_HOST": "127.0.0.1", "CLICKHOUSE_PORT": str(guarded.port), "CLICKHOUSE_USER": "dbt",
                   "CLICKHOUSE_PASSWORD": guarded.known["dbt"][1], "PATH": "/usr/bin:/bin"}
    build.build(environment, ("--select", "int_user_events", "user_activity", "--resource-type", "model"), dbt=dbt)
    warehouse = Warehouse(accounts.as_user(guarded.url, *guarded.known["admin"]))
    yield path, environment, warehouse
    warehouse.close()


@pytest.fixture
def landed(guarded):
    """Land events as ingest does; their ids go on from where an earlier test's ended."""
    def landing(count):
        first = int(_asked(guarded, "admin", "SELECT count() FROM landing.user_events"))
        _asked(guarded, "ingest", "INSERT INTO landing.user_events (topic, partition, offset, batch, produced_at, event_id, user_id, item_id, event_type, occurred_at, country) "
               f"SELECT 'user-events', 0, number, 'b', now64(3), concat('e', leftPad(toString(number), 6, '0')), number % 50, 1, 'view', now64(3), 'DE' FROM numbers({first}, {count})")
        return list(range(first + count))
    return landing


def _kept(guarded):
    return [int(e[1:]) for e in _asked(guarded, "dbt", "SELECT event_id FROM staging.int_user_events FINAL ORDER BY event_id").split()]


def _stands(guarded):
    return _asked(guarded, "admin", "SELECT name FROM system.tables WHERE name LIKE '%int_user_events%' ORDER BY name").split()


def test_dbt_builds_a_changed_model_beside_and_takes_it_for_its_own_after_the_exchange(guarded, project, landed, dbt):
    path, environment, warehouse = project
    landed(60)
    path.write_text(path.read_text().replace("    produced_at\n", "    produced_at,\n    produced_at - occurred_at AS late_s\n"))
    told = Deploy(warehouse, environment, "int_user_events", dbt=dbt).run()
    sent = landed(5)
    assert (told.changed, told.proof.keys, told.readers) == (True, 60, ("marts.user_activity",))
    assert _kept(guarded) == sent
    assert "late_s" in _asked(guarded, "analyst", "DESCRIBE TABLE staging.int_user_events")
    assert _asked(guarded, "admin", "SELECT comment LIKE 'caught up %' FROM system.tables WHERE database = 'staging' AND name = 'int_user_events'") == "1\n"
    assert _stands(guarded) == ["int_user_events", "int_user_events_mv"]
    build.build(environment, ("--select", "int_user_events", "--resource-type", "model"), dbt=dbt)
    assert _asked(guarded, "dbt", "SELECT count() FROM staging.int_user_events") == "65\n"


@pytest.mark.long  # test_deploy.py holds it with a build that fails
def test_a_model_whose_test_fails_is_not_deployed(guarded, project, landed, dbt):
    path, environment, warehouse = project
    landed(10)
    path.write_text(path.read_text().replace("    event_type,\n", "    if(user_id = 3, 'sigh', toString(event_type)) AS event_type,\n"))
    with pytest.raises(ServiceFailed, match="accepted_values"):
        Deploy(warehouse, environment, "int_user_events", dbt=dbt).run()
    assert _stands(guarded) == ["int_user_events", "int_user_events_mv"]
    sent = landed(1)
    assert _kept(guarded) == sent


def test_only_an_administrator_holds_writes_for_statements(guarded):
    for user in ("dbt", "capture", "ingest", "analyst"):
        answer = httpx.post(f"{guarded.url}/together", content='["DROP TABLE landing.user_events"]', auth=guarded.known[user])
        assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "497"), answer.text
    assert httpx.post(f"{guarded.url}/together", content='["DROP TABLE landing.user_events"]').status_code == 403
