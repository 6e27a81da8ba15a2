"""A gateway for each file that asks for one, with a database `d`; it has to end well."""
import pytest
from tests.contract.gateway_server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("gateway")).start()
    server.text("CREATE DATABASE d ENGINE = Atomic")
    yield server
    assert server.stop() == 0
