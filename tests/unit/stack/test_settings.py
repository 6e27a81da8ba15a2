"""Settings: what is wrong is named, in one line, with what to do."""
import errno
import json
from dataclasses import replace

import pytest

from weir.connect import postgres
from weir.errors import DiskFull, SettingsError
from weir.stack import accounts, services, settings


def _env(tmp_path, **more):
    return {"WEIR_HOME": str(tmp_path / "home"), "WEIR_ROOT": str(tmp_path), **more}


def test_the_port_base_moves_every_endpoint(tmp_path):
    loaded = settings.load(_env(tmp_path, WEIR_PORT_BASE="30000"))
    assert ":30005" in loaded.endpoints.clickhouse_url
    assert ":30011" in loaded.endpoints.api_url


@pytest.mark.parametrize("value", ["x", "80", "70000", "65530"])
def test_a_port_base_out_of_range_is_refused_by_name(tmp_path, value):
    with pytest.raises(SettingsError, match="WEIR_PORT_BASE"):
        settings.load(_env(tmp_path, WEIR_PORT_BASE=value))


def test_the_settings_file_points_a_service_elsewhere(tmp_path):
    (tmp_path / "weir.toml").write_text('[endpoints]\nclickhouse_url = "http://db:8123"\n')
    loaded = settings.load(_env(tmp_path))
    assert loaded.endpoints.clickhouse_url == "http://db:8123"
    assert loaded.external == {"clickhouse"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[endpoints", "TOML"),
        ("[other]\n", "other"),
        ("endpoints = 3\n", "no section"),
        ("[endpoints]\nredis_ulr = 'a'\n", r"redis_ulr is unknown\. Did you mean redis_url"),
        ("[endpoints]\nredis_url = 3\n", "redis_url must be"),
        ("[endpoints]\nredis_url = 'localhost:6379'\n", r"redis_url begins with localhost:// instead of redis://.*redis://redis\.example"),
        ("[endpoints]\nclickhouse_url = 'http://db:eight'\n", "clickhouse_url Port could not be cast"),
        ("[endpoints]\nconnect_url = 'http://'\n", "connect_url names no host"),
        ("[endpoints]\nkafka_bootstrap = 'a:9092,b'\n", "kafka_bootstrap names no port"),
        ("[endpoints]\npostgres_dsn = 'postgresql://db:5432'\n", "postgres_dsn names no database"),
    ],
)
def test_a_broken_settings_file_names_what_is_wrong(tmp_path, text, named):
    (tmp_path / "weir.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        settings.load(_env(tmp_path))


def test_a_settings_file_that_is_no_text_is_told_like_any_other(tmp_path):
    (tmp_path / "weir.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"weir\.toml is not valid TOML"):
        settings.load(_env(tmp_path))


def test_the_examples_that_hints_give_are_themselves_right():
    assert {key: settings.problem(key, example) for key, (_, example) in settings.FORMS.items()} == dict.fromkeys(settings.EXTERNAL, "")


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "home").touch()
    with pytest.raises(SettingsError, match=rf"WEIR_HOME at {tmp_path}/home cannot be written"):
        settings.load(_env(tmp_path))


def test_a_full_disk_is_told_as_such(tmp_path, monkeypatch):
    def full(_home):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(postgres, "read_or_create_password", full)
    with pytest.raises(DiskFull, match="no room is left"):
        settings.load(_env(tmp_path))


def test_a_named_settings_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        settings.load(_env(tmp_path, WEIR_SETTINGS=str(tmp_path / "none.toml")))


def test_dbt_and_feast_get_one_user_and_its_password(tmp_path):
    loaded = replace(settings.load(_env(tmp_path)), clickhouse_users=dict.fromkeys([*accounts.SERVICES, accounts.DBT], 'p"w'))
    found = services.environment(loaded)
    assert found["CLICKHOUSE_USER"] == accounts.DBT
    assert json.loads(found["FEAST_CLICKHOUSE_PASSWORD"]) == found["CLICKHOUSE_PASSWORD"] == 'p"w'
