"""`python -m weir.gateway --path DIR --port N`: serve one data folder on loopback until SIGTERM.

On SIGTERM it takes no more queries, lets those that run end for DRAIN_S, stops the rest, and closes the engine; statements that do not stop
within STOP_S more leave the engine open, and the process ends as a killed one would: what was acknowledged is on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path

import uvicorn
import uvloop

from weir.gateway import accounts
from weir.gateway.app import Gateway
from weir.gateway.engine import CRASH_AT, TRAIL, Engine
from weir.telemetry import points, setup

DRAIN_S = 5.0
STOP_S = 6.0
SWITCH_S = 0.0005  # a thread that runs Python gives way to the loop after so long: Python's own 5 ms are several times what a simple query takes
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
log = logging.getLogger("weir.gateway")


class _Unfinished(logging.Filter):
    """Leaves out uvicorn's word on an answer without an end: it is how an exception after data is told (exchange.py)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in record.getMessage()


async def _serve(gateway: Gateway, host: str, port: int, tls: tuple[Path, Path] | None) -> None:
    certificate, key = tls or (None, None)
    config = uvicorn.Config(
        gateway, host=host, port=port, log_level="warning", access_log=False, timeout_keep_alive=600, http="httptools",
        timeout_graceful_shutdown=int(DRAIN_S + STOP_S), limit_max_requests=None, h11_max_incomplete_event_size=1 << 20,
        ssl_certfile=certificate, ssl_keyfile=key,
    )  # fmt: skip
    server = uvicorn.Server(config)
    loop, draining = asyncio.get_running_loop(), []  # type: tuple[asyncio.AbstractEventLoop, list[asyncio.Task[None]]]

    def stop() -> None:
        if not draining:
            draining.append(loop.create_task(gateway.drain(DRAIN_S)))
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    config.load()
    logging.getLogger("uvicorn.error").addFilter(_Unfinished())
    server.lifespan = config.lifespan_class(config)
    await server._serve()  # noqa: SLF001 - serve() would capture our signals (uvicorn.Server.capture_signals)
    for task in draining:
        task.cancel()


def _tls(certificate: Path, key: Path) -> tuple[Path, Path]:
    """Return the two files once they were seen to fit: found out now, not when the engine is open."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        sys.exit(f"--tls-certificate {certificate}, --tls-key {key}: {error}")
    return certificate, key


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m weir.gateway", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="data folder; one process owns it")
    parser.add_argument("--port", type=int, required=True, help="HTTP port")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback unless told otherwise)")
    parser.add_argument("--memory", type=int, default=4 << 30, help="most bytes the engine may use in all")
    parser.add_argument("--users", type=Path, action="append", default=[], help="file of roles and users (TOML); may be given again; without it anyone may do anything")
    parser.add_argument("--tls-certificate", type=Path, help="certificate chain (PEM): with its key, the port speaks HTTPS only")
    parser.add_argument("--tls-key", type=Path, help="the certificate's private key (PEM)")
    arguments = parser.parse_args()
    if bool(arguments.tls_certificate) != bool(arguments.tls_key):
        parser.error("--tls-certificate and --tls-key go together")
    tls = _tls(arguments.tls_certificate, arguments.tls_key) if arguments.tls_key else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if arguments.host not in LOOPBACK and not arguments.users:
        sys.exit(f"--host {arguments.host}: without --users anyone may do anything, so it listens on loopback only")
    try:
        users = accounts.load(arguments.users) if arguments.users else None
        engine = Engine(arguments.path, memory_bytes=arguments.memory, accounts=users, reach=points.reaching(os.environ, CRASH_AT, TRAIL))
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))
    if arguments.host not in LOOPBACK and tls is None:
        log.warning("passwords cross the network to %s unencrypted: give --tls-certificate and --tls-key", arguments.host)
    telemetry = setup("clickhouse")
    sys.setswitchinterval(SWITCH_S)
    gateway = Gateway(engine, arguments.path.resolve() / "spool", telemetry=telemetry, accounts=users)
    try:
        uvloop.run(_serve(gateway, arguments.host, arguments.port, tls))
    finally:
        closed = gateway.close(STOP_S)
        telemetry.shutdown()
        if not closed:
            log.error("%d statements did not stop: the engine is left as a kill would leave it", engine.active)
            os._exit(1)


if __name__ == "__main__":
    main()
