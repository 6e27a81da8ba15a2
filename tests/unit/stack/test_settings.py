"""Settings: what is wrong is named, in one line, with what to do."""
import pytest

from weir.errors import SettingsError
from weir.stack import settings


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
    [("[endpoints", "TOML"), ("[other]\n", "other"), ("[endpoints]\nx_url = 'a'\n", "x_url"), ("[endpoints]\nredis_url = 3\n", "redis_url")],
)
def test_a_broken_settings_file_names_what_is_wrong(tmp_path, text, named):
    (tmp_path / "weir.toml").write_text(text)
    with pytest.raises(SettingsError, match=named):
        settings.load(_env(tmp_path))


def test_a_named_settings_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        settings.load(_env(tmp_path, WEIR_SETTINGS=str(tmp_path / "none.toml")))
