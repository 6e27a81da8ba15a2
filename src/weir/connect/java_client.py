"""How brokers of one's own are spoken to, in the words of Kafka's Java clients: Kafka Connect is given what all others are.

In: the settings that weir.topics.client reads. Out: Java's settings, and the text of a key store. Keep: pure; what is secret is named by SECRET, for a file of mode 0600.

Sources: kafka.apache.org/documentation, "Security" and the clients' ssl.* and sasl.* settings (KIP-651 for PEM); java.util.Properties.load and java.io.StreamTokenizer for what is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from weir.errors import SettingsError

SECRET: Final = frozenset({"sasl.jaas.config", "ssl.key.password"})
_MODULES: Final = {"PLAIN": "plain.PlainLoginModule", "SCRAM-SHA-256": "scram.ScramLoginModule", "SCRAM-SHA-512": "scram.ScramLoginModule"}
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
PLAIN_KEY: Final = "-----BEGIN PRIVATE KEY-----"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _code_units(sign: re.Match[str]) -> str:
    units = sign[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[at:at + 4]}" for at in range(0, len(units), 4))


def translated(found: Mapping[str, str], keystore: str) -> dict[str, str]:
    """Return the settings of a Java client. Pure. `keystore`: the path of the file that `pem` is written to."""
    java = {"security.protocol": found["security.protocol"]}
    if found["security.protocol"].startswith("SASL"):
        user, password = (_quoted(found[f"sasl.{word}"]) for word in ("username", "password"))
        module = f"org.apache.kafka.common.security.{_MODULES[found['sasl.mechanism']]}"
        java |= {"sasl.mechanism": found["sasl.mechanism"], "sasl.jaas.config": f"{module} required username={user} password={password};"}
    if "ssl.ca.location" in found:
        java |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": found["ssl.ca.location"]}
    if "ssl.key.location" in found:
        java |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": keystore}
    if "ssl.key.password" in found:
        java["ssl.key.password"] = found["ssl.key.password"]
    if algorithm := found.get("ssl.endpoint.identification.algorithm"):
        java["ssl.endpoint.identification.algorithm"] = "" if algorithm == "NONE" else "https"
    return java


def pem(key: str, certificates: str) -> str:
    """Return the key store that Java wants in one file: the private key of the one file, then the certificates of the other. Pure. Both may be one file.

    Raises:
        SettingsError: there is not one key in PKCS #8, the form that Java reads, or no certificate.
    """
    keys = [found[0] for found in _BLOCK.finditer(key) if found[1] in {"PRIVATE KEY", "ENCRYPTED PRIVATE KEY"}]
    chain = [found[0] for found in _BLOCK.finditer(certificates) if found[1] == "CERTIFICATE"]
    if len(keys) != 1:
        raise SettingsError("what ssl.key.location names is not one key in PKCS #8, so Kafka Connect cannot read it", hint="openssl pkcs8 -topk8 -in KEY -out NEW makes it so (-nocrypt: without a password)")
    if not chain:
        raise SettingsError("what ssl.certificate.location names has no certificate in PEM, so Kafka Connect cannot read it", hint="openssl x509 -in CERTIFICATE -inform DER -out NEW makes one")
    return "\n".join([*keys, *chain, ""])


def line(key: str, value: str) -> str:
    r"""Return a line of a .properties file, as Java reads it in either encoding: a backslash twice, what is not ASCII as \uXXXX. Pure."""
    return f"{key}=" + re.sub(r"[^\x00-\x7f]", _code_units, value.replace("\\", "\\\\")) + "\n"
