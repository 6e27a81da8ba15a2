"""`python -m weir.gateway --path DIR --port N`: serve one data folder on loopback until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn

from weir.gateway.app import Gateway
from weir.gateway.engine import Engine


async def _serve(gateway: Gateway, host: str, port: int) -> None:
    server = uvicorn.Server(uvicorn.Config(gateway, host=host, port=port, log_level="warning", access_log=False, timeout_keep_alive=600, loop="uvloop", timeout_graceful_shutdown=8))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # (own) uvicorn would raise the signal again and skip close()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server._serve()  # noqa: SLF001 - serve() would capture our signals (uvicorn.Server.capture_signals)


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m weir.gateway", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="data folder; one process owns it")
    parser.add_argument("--port", type=int, required=True, help="HTTP port")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback unless told otherwise)")
    parser.add_argument("--memory", type=int, default=4 << 30, help="most bytes the engine may use in all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if arguments.host not in {"127.0.0.1", "::1", "localhost"}:
        sys.exit(f"--host {arguments.host}: this server knows no users yet, so it listens on loopback only")
    try:
        engine = Engine(arguments.path, memory_bytes=arguments.memory)
    except RuntimeError as error:
        sys.exit(str(error))
    memory = Path("/dev/shm")  # noqa: S108 - memory-backed; our own subfolder of mode 0700
    spool = memory / f"weir-spool-{os.geteuid()}-{hashlib.sha256(str(arguments.path.resolve()).encode()).hexdigest()[:12]}" if os.access(memory, os.W_OK) else arguments.path / "spool"
    gateway = Gateway(engine, spool)
    try:
        asyncio.run(_serve(gateway, arguments.host, arguments.port))
    finally:
        gateway.close()


if __name__ == "__main__":
    main()
