"""What every Kafka client is made with: the brokers, and for somebody else's how they are spoken to (TLS, SASL).

In: the brokers; WEIR_KAFKA_CLIENT, a properties file for those of WEIR_KAFKA_BOOTSTRAP. Out: librdkafka's settings. Keep: a secret stands in the file alone, is in no
message, and goes to no other brokers; a key that is not about security is refused, since the clients' other settings are what exactly-once rests on.

Keys: librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from pathlib import Path
from typing import Any, Final

from weir.errors import SettingsError

BOOTSTRAP: Final = "WEIR_KAFKA_BOOTSTRAP"
FILE: Final = "WEIR_KAFKA_CLIENT"
LOCATIONS: Final = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
KEYS: Final = ("security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", *LOCATIONS, "ssl.key.password", "ssl.endpoint.identification.algorithm")
CLOSED: Final = {  # keys with a closed set of values
    "security.protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl.mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    "ssl.endpoint.identification.algorithm": ("HTTPS", "NONE"),
}
OTHERS: Final = 0o007
ASK_S: Final = 3.0


def fault(found: dict[str, str]) -> str:
    """Return what is wrong or missing among the settings, or an empty string; no value is told. Pure."""
    protocol = found.get("security.protocol", "")
    wanted = ["security.protocol", *(["sasl.mechanism", "sasl.username", "sasl.password"] if protocol.startswith("SASL") else [])]
    pair = ["ssl.certificate.location", "ssl.key.location"]
    wanted += pair if found.keys() & set(pair) else []
    missing = [key for key in wanted if not found.get(key)]
    wrong = [f"{key} is none of {', '.join(values)}" for key, values in CLOSED.items() if key in found and found[key] not in values]
    return f"{missing[0]} is missing" if missing else "".join(wrong[:1])


def parse(text: str, name: str) -> dict[str, str]:
    """Return the settings of a properties file: key=value lines, blank ones, and comments (# or !). Pure. `name`: the file's, for messages, which have no value in them.

    Raises:
        SettingsError: a line is none of these, a key is not accepted, or a setting is wrong or missing.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith(("#", "!")):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise SettingsError(f"{name}, line {number}, is not key=value", hint="write one setting a line")
        if key not in KEYS:
            raise SettingsError(f"{name} has {key!r}, which is not accepted", hint=f"take it out; these are: {', '.join(KEYS)}", key=key)
        key = "sasl.mechanism" if key == "sasl.mechanisms" else key
        found[key] = value.upper() if key in CLOSED else value
    if told := fault(found):
        raise SettingsError(f"{name}: {told}", hint="docs/guides/own-services.md has an example")
    return found


def read(path: Path) -> dict[str, str]:
    """Return the settings of the file; what it names relatively is taken from its folder.

    Raises:
        SettingsError: it, or a file that it names, cannot be read; everybody can read it; as `parse`.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}", hint="kafka_client in weir.toml names it: write it, or correct that key") from error
    if mode & OTHERS:
        raise SettingsError(f"{path} is open to everybody, and a password may stand in it", hint=f"chmod 600 {path}")
    found = parse(text, str(path))
    for key in (k for k in LOCATIONS if k in found):
        found[key] = str(path.parent / found[key])
        if not (Path(found[key]).is_file() and os.access(found[key], os.R_OK)):
            raise SettingsError(f"{path}: {key} names {found[key]}, which cannot be read", hint="name a PEM file that this user may read", key=key)
    return found


def client_settings(bootstrap: str) -> dict[str, Any]:
    """Return what a Consumer, Producer or AdminClient of these brokers begins with.

    Raises:
        SettingsError: as `read`.
    """
    file = os.environ.get(FILE, "") if os.environ.get(BOOTSTRAP) == bootstrap else ""
    return {"bootstrap.servers": bootstrap, **(read(Path(file)) if file else {})}


def quiet() -> logging.Logger:
    """Return where librdkafka's own lines go: a broker that is away is told by what asks, once."""
    found = logging.getLogger("weir.topics.kafka")
    found.setLevel(logging.CRITICAL)
    return found


class _Asking:
    """One held AdminClient, since each new one is another handshake, and the refusal that it heard of: librdkafka tells the same one again only after a while."""

    def __init__(self, found: dict[str, str]) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        self.heard = heard = {"refused": ""}  # the client holds what it calls, so that is not this: it ends with the last that holds it
        self.turn = threading.Lock()
        try:
            self.admin: Any = AdminClient({**found, "error_cb": lambda error: _hear(heard, error), "log_level": 0}, logger=quiet())
        except KafkaException as error:  # a certificate or a key that is none, or a wrong password for it: the text names the setting, and no value
            raise SettingsError(f"the file that kafka_client in weir.toml names cannot be used: {error.args[0].str()}", hint="correct what that setting names") from None


def _hear(heard: dict[str, str], error: Any) -> None:
    from confluent_kafka import KafkaError

    if error.code() in {KafkaError._AUTHENTICATION, KafkaError._SSL}:  # noqa: SLF001 - librdkafka's own names
        heard["refused"] = error.str()
    elif error.code() == KafkaError._TRANSPORT:  # noqa: SLF001 - as above; it is away by now
        heard["refused"] = ""


@functools.lru_cache(maxsize=1)
def _asking(found: frozenset[tuple[str, str]]) -> _Asking:
    return _Asking(dict(found))


def answers(bootstrap: str, timeout_s: float = ASK_S) -> bool:
    """Return whether a broker answers this client within about `timeout_s`.

    Raises:
        SettingsError: they refuse each other (credentials, certificate), or what the file names cannot be used: asking again unchanged will not help; as `read`.
    """
    from confluent_kafka import KafkaException

    asking = _asking(frozenset(client_settings(bootstrap).items()))
    with asking.turn:
        try:
            asking.admin.list_topics(timeout=timeout_s)
        except KafkaException:
            asking.admin.poll(0)
            if asking.heard["refused"]:
                raise SettingsError(f"Kafka at {bootstrap} and this client refuse each other: {asking.heard['refused']}", hint="correct the file that kafka_client in weir.toml names") from None
            return False
        asking.heard["refused"] = ""
        return True


def check(bootstrap: str) -> None:
    """See, of brokers that a file is there for, that they and this client do not refuse each other; whether they answer at all is another question.

    Raises:
        SettingsError: they do, as `answers`.
    """
    if len(client_settings(bootstrap)) > 1:
        answers(bootstrap)
        let_go()


def let_go() -> None:
    """End the connection that `answers` holds: before a fork, which no thread of a client survives."""
    _asking.cache_clear()
