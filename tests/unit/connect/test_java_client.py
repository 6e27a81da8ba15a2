"""How brokers of one's own are spoken to, in Java's words."""
import pytest

from weir.connect import java_client, worker
from weir.contracts.endpoints import Endpoints
from weir.errors import SettingsError

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.username": "me", "sasl.password": 'p"a\\s'}
TLS = {"security.protocol": "SSL", "ssl.ca.location": "/ca.pem", "ssl.certificate.location": "/c.pem", "ssl.key.location": "/k.pem", "ssl.key.password": "hush"}
KEY = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(("mechanism", "module"), [("PLAIN", "plain.PlainLoginModule"), ("SCRAM-SHA-256", "scram.ScramLoginModule"), ("SCRAM-SHA-512", "scram.ScramLoginModule")])
def test_user_and_password_become_a_login_module_with_their_signs_escaped(mechanism, module):
    assert java_client.translated({**SASL, "sasl.mechanism": mechanism}, "") == {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
        "sasl.jaas.config": f'org.apache.kafka.common.security.{module} required username="me" password="p\\"a\\\\s";',
    }


@pytest.mark.parametrize(("given", "java"), [({}, {}), ({"ssl.endpoint.identification.algorithm": "NONE"}, {"ssl.endpoint.identification.algorithm": ""}),
                                             ({"ssl.endpoint.identification.algorithm": "HTTPS"}, {"ssl.endpoint.identification.algorithm": "https"})])
def test_certificates_become_pem_stores(given, java):
    assert java_client.translated({**TLS, **given}, "/keystore.pem") == {
        "security.protocol": "SSL", "ssl.truststore.type": "PEM", "ssl.truststore.location": "/ca.pem", "ssl.keystore.type": "PEM", "ssl.keystore.location": "/keystore.pem",
        "ssl.key.password": "hush", **java,
    }


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY"])
def test_a_key_store_is_one_key_and_the_certificates_also_of_one_file(kind):
    key = KEY.replace("PRIVATE KEY", kind)
    assert java_client.pem(key, CERTIFICATE) == key + CERTIFICATE
    assert java_client.pem(CERTIFICATE + key, f"a comment\n{key}{CERTIFICATE}{CERTIFICATE}") == key + CERTIFICATE + CERTIFICATE


@pytest.mark.parametrize(("key", "certificate", "told"), [(KEY.replace("PRIVATE", "RSA PRIVATE"), CERTIFICATE, "openssl pkcs8 -topk8"), (KEY + KEY, CERTIFICATE, "not one key"),
                                                          ("\ufffd", CERTIFICATE, "not one key"), (KEY, "\ufffd", "no certificate in PEM")])
def test_what_java_cannot_read_is_refused(key, certificate, told):
    with pytest.raises(SettingsError, match=told):
        java_client.pem(key, certificate)


def test_a_line_is_read_by_java_as_it_was_meant():
    assert java_client.line("k", 'a\\"é𝄞=#') == 'k=a\\\\"\\u00e9\\ud834\\udd1e=#\n'


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """The worker's settings and its secrets file, for a client file's text."""
    monkeypatch.setattr(worker.jars, "fetch", lambda _home: None)

    def prepare(text):
        file = tmp_path / "c.properties"
        file.touch(mode=0o600)
        file.write_text(text)
        worker.prepare(tmp_path, Endpoints.local() if not text else Endpoints(**{**_values(), "kafka_client": str(file)}))
        return (tmp_path / "connect" / "worker.properties").read_text(), worker.secrets_file(tmp_path)

    def _values():
        return {name: getattr(Endpoints.local(), name) for name in Endpoints.__slots__}

    return prepare


def test_the_worker_and_its_clients_are_told_and_the_secret_stands_in_a_closed_file_alone(prepared):
    text, secrets = prepared("security.protocol=sasl_plaintext\nsasl.mechanism=PLAIN\nsasl.username=me\nsasl.password=hushhush\n")
    for prefix in ("", "producer.", "consumer.", "admin."):
        assert f"\n{prefix}security.protocol=SASL_PLAINTEXT\n" in text
        assert f"\n{prefix}sasl.jaas.config=${{file:{secrets}:kafka.sasl.jaas.config}}\n" in text
    assert "hushhush" not in text
    assert 'password="hushhush";\n' in secrets.read_text()
    assert "cdc_password=" in secrets.read_text()
    assert secrets.stat().st_mode & 0o077 == 0


def test_the_key_store_is_written_for_the_worker_and_closed_and_goes_when_no_brokers_want_it(prepared, tmp_path):
    for name, text in (("k.pem", KEY), ("c.pem", CERTIFICATE)):
        (tmp_path / name).write_text(text)
    keystore = worker.secrets_file(tmp_path).with_name("kafka-keystore.pem")
    keystore.parent.mkdir(parents=True, exist_ok=True)
    keystore.write_text("open")
    text, _ = prepared("security.protocol=ssl\nssl.key.location=k.pem\nssl.certificate.location=c.pem\nssl.key.password=hush\n")
    assert f"\nadmin.ssl.keystore.location={keystore}\n" in text
    assert "ssl.key.password" not in text  # the key needs none, and Java would take it for an encrypted one
    assert keystore.read_text() == KEY + CERTIFICATE
    assert keystore.stat().st_mode & 0o077 == 0
    prepared("")
    assert not keystore.exists()


def test_a_kafka_of_weirs_own_is_spoken_to_as_before(prepared):
    text, secrets = prepared("")
    assert "security.protocol" not in text
    assert secrets.read_text().startswith("cdc_password=")
    assert secrets.read_text().count("\n") == 1
