"""Each service is a user of its own to ClickHouse, and what an administrator wrote is left alone."""
import stat
import tomllib

import pytest

from weir.errors import SettingsError
from weir.gateway import accounts as gateway
from weir.stack import accounts, services, settings


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def loaded(home, tmp_path):
    return settings.load({"WEIR_HOME": str(home), "WEIR_ROOT": str(tmp_path), "PATH": ""})


def test_passwords_are_made_once_and_only_their_hashes_are_in_the_users_file(home, loaded):
    accounts.prepare(home, loaded.clickhouse_users)
    text = accounts.path(home).read_text()
    users = tomllib.loads(text)["users"]
    assert set(users) == set(accounts.USERS)
    for user, password in loaded.clickhouse_users.items():
        assert password not in text
        assert gateway.matches(password, users[user]["password_scrypt"])
    assert accounts.passwords(home) == loaded.clickhouse_users
    for path in (accounts.path(home), *(home / "secrets").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_what_stands_in_the_users_file_is_kept_and_a_missing_user_is_added(home, loaded):
    home.mkdir(exist_ok=True)
    mine = gateway.hashed("mine")
    accounts.path(home).write_text(f'# mine\n[users.analyst]\nrole = "admin"\npassword_scrypt = "{mine}"\n')
    accounts.prepare(home, {u: loaded.clickhouse_users[u] for u in ("analyst", "dbt")})
    text = accounts.path(home).read_text()
    assert text.startswith("# mine\n")
    assert {n: u["role"] for n, u in tomllib.loads(text)["users"].items()} == {"analyst": "admin", "dbt": "dbt"}
    accounts.prepare(home, {u: loaded.clickhouse_users[u] for u in ("analyst", "dbt")})
    assert accounts.path(home).read_text() == text
    accounts.path(home).write_text("[users")
    with pytest.raises(SettingsError, match="not valid TOML"):
        accounts.prepare(home, loaded.clickhouse_users)


def test_a_service_knows_its_own_password_and_no_others(loaded):
    passwords = loaded.clickhouse_users
    commands = {s.name: s.command for s in services.build(loaded)} | services.companions(loaded)
    for name, command in commands.items():
        known = {user for user, password in passwords.items() if password in str(command.env) or password in str(command.argv)}
        more = {accounts.DBT} if name == "reconcile" else set()  # it has dbt make a mart anew that differs
        assert known == ({name} & set(accounts.SERVICES)) | more, name
    assert f"//otlp:{passwords['otlp']}@127.0.0.1" in commands["otlp"].env["WEIR_CLICKHOUSE_URL"]
    assert "@" not in next(s for s in services.build(loaded) if s.name == "clickhouse").endpoint
    mine = services.environment(loaded)
    assert f"//admin:{passwords['admin']}@" in mine["WEIR_CLICKHOUSE_URL"]
    assert (mine["CLICKHOUSE_USER"], mine["CLICKHOUSE_PASSWORD"]) == ("dbt", passwords["dbt"])


def test_somebody_elses_clickhouse_keeps_its_own_users(home, tmp_path):
    (tmp_path / "weir.toml").write_text('[endpoints]\nclickhouse_url = "http://me:word@db:8123"\n')
    loaded = settings.load({"WEIR_HOME": str(home), "WEIR_ROOT": str(tmp_path)})
    for name in ("", "otlp", "dashboard"):
        env = services.environment(loaded, name)
        assert (env["WEIR_CLICKHOUSE_URL"], env["CLICKHOUSE_USER"]) == ("http://me:word@db:8123", "me")


def test_a_url_takes_a_user_in_place_of_another():
    assert accounts.as_user("http://a:b@h:1/x", "c", "d@:/") == "http://c:d%40%3A%2F@h:1/x"
    assert accounts.as_user("http://a:b@h:1/x", "", "") == "http://h:1/x"
