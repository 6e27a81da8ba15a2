"""How brokers of one's own are spoken to: what the file may say, who is told of it, and that no message says a secret."""
import gc
from pathlib import Path

import pytest

from weir.errors import SettingsError
from weir.topics import client

SCRAM = "security.protocol=SASL_SSL\nsasl.mechanisms=SCRAM-SHA-512\nsasl.username=weir\nsasl.password=hush=hush#\n"


def test_a_file_is_read_line_by_line_with_comments_and_both_spellings_of_the_mechanism():
    found = client.parse(f"# ours\n\n! too\n{SCRAM}  ssl.endpoint.identification.algorithm = none \n".replace("SASL_SSL", "sasl_ssl"), "f")
    assert found == {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "weir", "sasl.password": "hush=hush#",
                     "ssl.endpoint.identification.algorithm": "NONE"}


@pytest.mark.parametrize(("text", "told"), [
    (SCRAM + "enable.idempotence=false", r"f has 'enable\.idempotence', which is not accepted.*security\.protocol, sasl\.mechanism,.*ssl\.key\.password"),
    (SCRAM + "debug=security", "f has 'debug'"),
    (SCRAM + "hush", "f, line 5, is not key=value"),
    ("sasl.username=weir", r"f: security\.protocol is missing"),
    ("security.protocol=hush", r"security\.protocol is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    (SCRAM.replace("SCRAM-SHA-512", "GSSAPI"), r"sasl\.mechanism is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
    (SCRAM.replace("sasl.password=hush=hush#", ""), r"sasl\.password is missing"),
    (SCRAM.replace("hush=hush#", ""), r"sasl\.password is missing"),
    (SCRAM + "ssl.key.location=k", r"ssl\.certificate\.location is missing"),
    (SCRAM + "ssl.certificate.location=c", r"ssl\.key\.location is missing"),
    (SCRAM + "ssl.endpoint.identification.algorithm=hush", r"ssl\.endpoint\.identification\.algorithm is none of HTTPS, NONE"),
])  # fmt: skip
def test_what_is_wrong_is_named_in_one_line_without_a_value(text, told):
    with pytest.raises(SettingsError, match=told) as refused:
        client.parse(text, "f")
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "kafka-client.properties"
    made.touch(mode=0o600)
    made.write_text(SCRAM)
    return made


def test_a_file_that_is_not_there_or_open_to_everybody_is_refused(file):
    with pytest.raises(SettingsError, match="none cannot be read: No such file"):
        client.read(file.with_name("none"))
    file.chmod(0o644)
    with pytest.raises(SettingsError, match=f"open to everybody.*chmod 600 {file}"):
        client.read(file)
    file.chmod(0o640)
    assert client.read(file)["sasl.username"] == "weir"
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="cannot be read: it is no text"):
        client.read(file)


def test_what_it_names_is_beside_it_and_has_to_be_there(file):
    file.write_text(f"{SCRAM}ssl.ca.location=ca.pem\n")
    with pytest.raises(SettingsError, match=rf"ssl\.ca\.location names {file.parent}/ca\.pem, which cannot be read"):
        client.read(file)
    (file.parent / "ca.pem").touch()
    assert client.read(file)["ssl.ca.location"] == str(file.parent / "ca.pem")


def test_the_secret_goes_to_the_brokers_it_was_named_with_and_to_no_others(file, monkeypatch):
    monkeypatch.setenv(client.BOOTSTRAP, "kafka.example:9093")
    monkeypatch.setenv(client.FILE, str(file))
    assert client.client_settings("kafka.example:9093") == {"bootstrap.servers": "kafka.example:9093", **client.read(file)}
    assert client.client_settings("127.0.0.1:17002") == {"bootstrap.servers": "127.0.0.1:17002"}
    monkeypatch.setenv(client.FILE, "")
    assert client.client_settings("kafka.example:9093") == {"bootstrap.servers": "kafka.example:9093"}


@pytest.fixture
def asked(file, monkeypatch):
    """Ask nobody's port, as the file says."""
    monkeypatch.setenv(client.BOOTSTRAP, "127.0.0.1:1")
    monkeypatch.setenv(client.FILE, str(file))
    yield lambda: client.answers("127.0.0.1:1", timeout_s=0.1)
    client.let_go()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_is_told_in_one_line_with_the_setting(asked, file, text):
    file.with_name("ca.pem").write_text(text)
    file.write_text(f"{SCRAM}ssl.ca.location=ca.pem\n")
    with pytest.raises(SettingsError, match=r"kafka_client.*cannot be used.*ssl\.ca\.location") as refused:
        asked()
    assert "hush" not in str(refused.value)
    assert "\n" not in str(refused.value)


def _threads():
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def test_what_is_held_to_ask_ends_when_it_is_let_go(asked):
    before = _threads()
    gc.disable()
    try:
        assert not asked()
        assert _threads() > before
        client.let_go()
        assert _threads() == before
    finally:
        gc.enable()


def test_librdkafka_knows_every_key_that_is_accepted():
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    told = []
    for key in (*client.KEYS, "no.such.key"):
        try:
            AdminClient({key: client.CLOSED.get(key, ["x"])[0].lower()})
        except KafkaException as error:
            told.append((key, str(error)))
    assert [key for key, text in told if "No such configuration property" in text] == ["no.such.key"]
