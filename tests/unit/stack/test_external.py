"""A service that is somebody else's is asked before anything is started, and shown with its answer."""
import http.server
import threading
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from weir.cli import watching
from weir.cli.app import app
from weir.errors import SettingsError, Unavailable
from weir.stack import examine, external, lifecycle, probe, settings, supervision
from weir.topics import client


class _Refuses(http.server.BaseHTTPRequestHandler):
    code = 200

    def do_GET(self):
        self.send_response(self.code)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made.server_address[1]
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Settings with ClickHouse at a port."""
    monkeypatch.setattr(external, "WAIT_S", 0)

    def at(port):
        (tmp_path / "weir.toml").write_text(f'[endpoints]\nclickhouse_url = "http://me:hushhush@127.0.0.1:{port}"\n')
        monkeypatch.setenv("WEIR_SETTINGS", str(tmp_path / "weir.toml"))
        monkeypatch.setenv("WEIR_HOME", str(tmp_path / "home"))
        return settings.load()

    return at


def test_one_that_does_not_answer_is_refused_before_anything_is_started(elsewhere, monkeypatch):
    monkeypatch.setattr(supervision, "spawn", lambda *_: pytest.fail("something was started"))
    with pytest.raises(Unavailable, match=r"the external clickhouse at http://127\.0\.0\.1:1 does not answer.*correct clickhouse_url in weir\.toml"):
        lifecycle.up(elsewhere(1), lambda *_: None)


def test_the_wait_for_one_is_told_once_and_ends_with_its_answer(elsewhere, monkeypatch):
    told, found = [], iter([False, False, True])
    monkeypatch.setattr(external, "WAIT_S", 60)
    monkeypatch.setattr(external, "EVERY_S", 0)
    monkeypatch.setattr(external, "answers", lambda *_: next(found))
    external.wait(elsewhere(1), lambda *said: told.append(said))
    assert told == [("clickhouse", "external, at http://127.0.0.1:1: no answer yet, waiting at most 60 s for it")]


@pytest.mark.parametrize(("code", "there"), [(200, True), (401, True), (503, False)])
def test_a_refusal_is_an_answer_and_a_servers_error_is_none(server, elsewhere, monkeypatch, code, there):
    monkeypatch.setattr(_Refuses, "code", code)
    assert external.answers(elsewhere(server), "clickhouse") is there
    assert external.answers(elsewhere(1), "clickhouse") is False


def test_the_status_shows_it_with_its_answer_and_without_its_password(server, elsewhere):
    for port, word in ((server, external.ANSWERS), (1, external.SILENT)):
        assert [(r.name, r.state, r.endpoint) for r in external.rows(elsewhere(port))] == [("clickhouse", word, f"http://127.0.0.1:{port}")]
        shown = " ".join(CliRunner().invoke(app, ["status"]).output.split())
        assert f"clickhouse {word} http://127.0.0.1:{port}" in shown
        assert "hushhush" not in shown


def test_every_external_service_has_a_probe(elsewhere):
    found = replace(elsewhere(1), external=frozenset(external.KEYS))
    assert {url.split(":")[0] for name in found.external for url in external.probes(name, settings.FORMS[external.KEYS[name]][1])} <= set(probe._PROBES)
    assert external.probes("kafka", "a:1,b:2") == ["kafka://a:1", "kafka://b:2"]
    assert external.probes("postgres", "postgres://u:p@h/d") == ["postgresql://u:p@h/d"]


@pytest.fixture
def secured(elsewhere, tmp_path):
    """Settings with a Kafka at a port where nobody is, to be spoken to by a client file."""
    file = tmp_path / "c"
    file.touch(mode=0o600)
    file.write_text("security.protocol=SSL\n")
    found = elsewhere(1)
    return replace(found, external=frozenset({"kafka"}), endpoints=replace(found.endpoints, kafka_bootstrap="127.0.0.1:1", kafka_client=str(file)))


def test_a_kafka_that_refuses_the_client_is_told_at_once_with_what_it_said(secured, monkeypatch):
    def refuse(_bootstrap):
        raise SettingsError("Kafka at a and this client refuse each other: SASL authentication error", hint="correct the file")

    monkeypatch.setattr(client, "answers", refuse)
    monkeypatch.setattr(external, "WAIT_S", 60)
    with pytest.raises(SettingsError, match="SASL authentication error"):
        external.wait(secured, lambda *_: None)
    [row] = external.rows(secured)
    assert (row.state, row.why) == (external.SILENT, "Kafka at a and this client refuse each other: SASL authentication error. correct the file")
    assert [f.remedy for f in examine._external(secured)] == [row.why]
    assert watching.trouble_lines([row]) == [f" kafka is {external.SILENT}: {row.why}"]


def test_a_kafka_that_is_away_is_no_refusal(secured, monkeypatch):
    monkeypatch.setenv(client.BOOTSTRAP, "127.0.0.1:1")
    monkeypatch.setenv(client.FILE, secured.endpoints.kafka_client)
    assert client.answers("127.0.0.1:1", 0.2) is False
    monkeypatch.setattr(client, "answers", lambda _: False)
    with pytest.raises(Unavailable, match=r"correct kafka_bootstrap in weir\.toml, or security\.protocol or the client's certificate in the file of kafka_client"):
        external.wait(secured, lambda *_: None)
