"""Settings: what is wrong is named, in one line, with what to do."""
import errno
import json
from dataclasses import replace

import pytest

from weir.connect import postgres
from weir.contracts.endpoints import Endpoints
from weir.errors import DiskFull, SettingsError
from weir.stack import accounts, services, settings
from weir.topics import client


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
        ("[endpoints]\nkafka_client = 'c'\n", "kafka_client is there without kafka_bootstrap"),
        ("[endpoints]\nkafka_bootstrap = 'a:9092'\nkafka_client = 3\n", "kafka_client must be.*kafka-client.properties"),
        ("[endpoints]\nkafka_bootstrap = 'a:9092'\nkafka_client = 'c'\n", "/c cannot be read: No such file"),
    ],
)
def test_a_broken_settings_file_names_what_is_wrong(tmp_path, text, named):
    (tmp_path / "weir.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        settings.load(_env(tmp_path))


@pytest.fixture
def secured(tmp_path, monkeypatch):
    """A settings file that names brokers and how they are spoken to; returns the path of the latter."""
    file = tmp_path / "kafka-client.properties"
    file.touch(mode=0o600)
    file.write_text("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=me\nsasl.password=hushhush\n")
    (tmp_path / "weir.toml").write_text('[endpoints]\nkafka_bootstrap = "kafka.example:9093"\nkafka_client = "kafka-client.properties"\n')
    for name, value in {**_env(tmp_path), client.BOOTSTRAP: "before", client.FILE: ""}.items():
        monkeypatch.setenv(name, value)
    return file


def test_every_process_is_told_the_client_files_path_and_nothing_of_what_is_in_it(secured, tmp_path):
    loaded = settings.load(_env(tmp_path))
    assert (loaded.external, loaded.endpoints.kafka_client) == ({"kafka"}, str(secured))
    for service in ("", "ingest", "features"):
        given = services.environment(loaded, service)
        assert given["WEIR_KAFKA_CLIENT"] == str(secured)
        assert "hushhush" not in str(given)
        assert Endpoints.from_environment(given).kafka_client == str(secured)
    assert Endpoints.from_environment({k: v for k, v in given.items() if k != "WEIR_KAFKA_CLIENT"}).kafka_client == ""


def test_a_command_that_has_loaded_its_settings_speaks_to_the_brokers_as_they_say(secured):
    assert "sasl.password" not in client.client_settings("kafka.example:9093")
    settings.load()
    assert client.client_settings("kafka.example:9093")["sasl.password"] == "hushhush"


def test_a_client_file_that_everybody_can_read_is_refused_with_what_to_type(secured, tmp_path):
    secured.chmod(0o644)
    with pytest.raises(SettingsError, match=f"chmod 600 {secured}"):
        settings.load(_env(tmp_path))


def test_a_settings_file_that_is_no_text_is_told_like_any_other(tmp_path):
    (tmp_path / "weir.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"weir\.toml is not valid TOML"):
        settings.load(_env(tmp_path))


def test_the_examples_that_hints_give_are_themselves_right():
    assert {key: settings.problem(key, example) for key, (_, example) in settings.FORMS.items()} == dict.fromkeys([*settings.EXTERNAL, settings.CLIENT], "")


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
