"""A real broker with TLS and users: the right file reads and writes, a wrong one is refused in one line, at once and without a password in it."""
import time
import uuid
from dataclasses import replace

import pytest
from tests.contract import kafka_server

from weir.connect import register
from weir.contracts.endpoints import Endpoints
from weir.errors import SettingsError
from weir.ingest.kafka_log import KafkaLog
from weir.simulation import produce
from weir.stack import external, settings
from weir.topics import client
from weir.topics.reader import Reader

pytestmark = pytest.mark.long  # a JVM of its own; tests/unit/topics/test_client.py and tests/unit/connect/test_java_client.py hold what is written for it

@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with kafka_server.running(tmp_path_factory.mktemp("kafka")) as found:
        yield found


@pytest.fixture
def using(server, monkeypatch):
    """Have this process speak to the server as a client's file says; returns the endpoints."""

    def use(path):
        monkeypatch.setenv(client.BOOTSTRAP, server.bootstrap)
        monkeypatch.setenv(client.FILE, str(path))
        return replace(Endpoints.local(), kafka_bootstrap=server.bootstrap, kafka_client=str(path))

    return use


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_client_with_the_right_file_makes_a_topic_writes_and_reads(server, using, mechanism):
    endpoints, topic = using(server.client_file("right", mechanism)), uuid.uuid4().hex
    assert client.answers(server.bootstrap, 20)
    register.ensure_topic(endpoints, topic, 1)
    producer = produce.producer(server.bootstrap)
    producer.produce(topic, b"here")
    assert producer.flush(20) == 0
    reader = Reader(server.bootstrap, topic)
    try:
        assert [m.value() for found in reader.read({(topic, 0): (0, 1)}) for m in found] == [b"here"]
    finally:
        reader.close()


def _configured(endpoints, folder):
    return replace(settings.load({"WEIR_HOME": str(folder), "WEIR_ROOT": str(folder)}), endpoints=endpoints, external=frozenset({"kafka"}))


@pytest.mark.parametrize(("instead", "said"), [
    ({"mechanism": "PLAIN", "sasl_password": "hushhush"}, "Authentication failed"),
    ({"mechanism": "SCRAM-SHA-512", "sasl_password": "hushhush"}, "Authentication failed"),
    ({"ssl_ca_location": "theirs.crt"}, "certificate verify failed"),
])  # fmt: skip
def test_a_wrong_password_or_certificate_is_one_line_at_once(server, using, instead, said, tmp_path, capfd):
    configured, began = _configured(using(server.client_file("wrong", **instead)), tmp_path), time.monotonic()
    with pytest.raises(SettingsError, match=said) as refused:
        external.wait(configured, lambda *_: None)
    assert time.monotonic() - began < external.WAIT_S / 2
    assert "\n" not in str(refused.value)
    assert "hushhush" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_lane_whose_password_is_wrong_is_told_so_before_it_joins(server, using):
    using(server.client_file("wrong", sasl_password="hushhush"))
    log = KafkaLog(server.bootstrap, uuid.uuid4().hex, ["t"])
    try:
        with pytest.raises(SettingsError, match="Authentication failed"):
            log.join(lambda _: {}, lambda: None)
    finally:
        log.close()


def test_without_a_file_it_does_not_answer(server, using):
    local = using("")
    assert not any(external.probe.answers(url, 1) for url in external.probes("kafka", local.kafka_bootstrap))
