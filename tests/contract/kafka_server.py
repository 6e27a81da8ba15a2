"""A Kafka of somebody's own: TLS with a certificate of the client's too, users by PLAIN and by SCRAM."""
import contextlib
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.contract import certificates
from tests.contract.gateway_server import free_port

from weir.connect import jars, java, java_client, kafka
from weir.contracts.endpoints import Endpoints
from weir.demo import follow
from weir.stack import probe

USER = "weir"
PASSWORDS = {"PLAIN": 'p@"a\\s=w#ö', "SCRAM-SHA-512": "scrambled"}
LISTENER = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},OWN://127.0.0.1:{own}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},OWN://127.0.0.1:{own}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OWN:SASL_SSL
listener.name.own.ssl.keystore.type=PEM
listener.name.own.ssl.keystore.location={folder}/server.pem
listener.name.own.ssl.truststore.type=PEM
listener.name.own.ssl.truststore.location={folder}/ours.crt
listener.name.own.ssl.client.auth=required
listener.name.own.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.own.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


@dataclass(frozen=True)
class Secured:
    """Where it is; `folder` has its certificate and key, `ours`, which its clients have too, and another pair, `theirs`."""

    bootstrap: str
    folder: Path

    def client_file(self, name, mechanism="PLAIN", **instead):
        """Write a client's file that is right but for what is given instead; return its path."""
        found = {"security.protocol": "SASL_SSL", "sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": PASSWORDS[mechanism],
                 "ssl.ca.location": "ours.crt", "ssl.certificate.location": "ours.crt", "ssl.key.location": "ours.key"}
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text("".join(f"{k}={v}\n" for k, v in (found | {k.replace("_", "."): v for k, v in instead.items()}).items()))
        return path


def _format(folder, properties):
    """Format the storage with a user of SCRAM's, who has to be there before the first start."""
    user = f"SCRAM-SHA-512=[name={USER},password={PASSWORDS['SCRAM-SHA-512']}]"
    arguments = ("format", "--standalone", "-t", kafka.cluster_id(), "-c", str(properties), "--add-scram", user)
    subprocess.run(java.argv(folder, "kafka", heap_mb=128, quick_start=True, main="kafka.tools.StorageTool", arguments=arguments), check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def running(folder, own=0, port=0, controller=0):
    """Run it, at free ports unless told, with its data in `folder` and the jars of WEIR_HOME; it has to be there still at the end."""
    own, port, controller = own or free_port(), port or free_port(), controller or free_port()
    home = Path(os.environ["WEIR_HOME"])
    jars.fetch(home)
    (folder / "jars").symlink_to(home / "jars")
    certificate, key = certificates.make(folder, "ours")
    certificates.make(folder, "theirs")
    (folder / "server.pem").write_text(key.read_text() + certificate.read_text())
    kafka.prepare(folder, replace(Endpoints.local(), kafka_bootstrap=f"127.0.0.1:{port}"))
    properties = folder / "kafka" / "server.properties"
    escaped = PASSWORDS["PLAIN"].replace("\\", "\\\\").replace('"', '\\"')
    user = java_client.line("listener.name.own.plain.sasl.jaas.config", f'{MODULE} required user_{USER}="{escaped}";')
    properties.write_text(properties.read_text() + LISTENER.format(own=own, port=port, controller=controller, folder=folder) + user)
    _format(folder, properties)
    with (folder / "kafka.log").open("w") as log:
        process = subprocess.Popen(java.argv(folder, "kafka", heap_mb=kafka.HEAP_MB, quick_start=True, main="kafka.Kafka", arguments=(str(properties),), flags=("-Xshare:auto",)),
                                   stdout=log, stderr=log, cwd=folder)
    try:
        follow.until(lambda: process.poll() is not None or probe.ready(f"kafka://127.0.0.1:{port}"), "a Kafka of one's own", 120)
        assert process.poll() is None, (folder / "kafka.log").read_text()[-2000:]
        yield Secured(f"127.0.0.1:{own}", folder)
        assert process.poll() is None, (folder / "kafka.log").read_text()[-2000:]
    finally:
        process.kill()  # its data goes with the folder
        process.wait(20)
