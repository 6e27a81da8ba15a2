"""TLS: given a certificate and its key the port speaks HTTPS, and real clients check it."""
import subprocess
import sys

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from tests.contract import certificates
from tests.contract.gateway_server import Server


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return certificates.make(folder, "ours"), certificates.make(folder, "theirs")


def test_a_client_that_checks_the_certificate_is_served_and_others_are_not(made, tmp_path):
    (certificate, key), (other, _) = made
    server = Server(tmp_path, "--tls-certificate", str(certificate), "--tls-key", str(key))
    server.verify, server.url = str(certificate), server.url.replace("http:", "https:")
    server.start()
    try:
        with clickhouse_connect.get_client(interface="https", host="127.0.0.1", port=server.port, ca_cert=str(certificate)) as client:
            assert client.query("SELECT sum(number) FROM numbers(100000)").result_rows == [(4999950000,)]
            client.command("CREATE TABLE t (a UInt64) ENGINE = Memory")
            client.insert("t", [[i] for i in range(100_000)], column_names=["a"])
            assert client.query("SELECT count() FROM t").result_rows == [(100_000,)]
        with pytest.raises(OperationalError):
            clickhouse_connect.get_client(interface="https", host="127.0.0.1", port=server.port, ca_cert=str(other))
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https:", "http:") + "/ping", timeout=5)
    finally:
        assert server.stop() == 0


def test_a_key_of_another_certificate_is_refused_before_the_folder_is_opened(made, tmp_path):
    (certificate, _), (_, key) = made
    done = subprocess.run(
        [sys.executable, "-m", "weir.gateway", "--path", str(tmp_path / "d"), "--port", "1", "--tls-certificate", str(certificate), "--tls-key", str(key)],
        capture_output=True, text=True, check=False, timeout=60,
    )
    assert done.returncode == 1
    assert "--tls-key" in done.stderr
    assert not (tmp_path / "d").exists()
