"""The service `catalogue`: `python -m weir.catalogue`, at WEIR_CATALOGUE_URL."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import uvicorn

from weir.catalogue import app, entries
from weir.errors import SettingsError, WeirError
from weir.telemetry import setup


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    try:
        url = urlsplit(os.environ.get("WEIR_CATALOGUE_URL", ""))
        if not url.hostname or not url.port:
            raise SettingsError("WEIR_CATALOGUE_URL is not set", hint="run this through ./weir run", key="WEIR_CATALOGUE_URL")
        served = entries.read(entries.path())
    except WeirError as error:
        print(f"catalogue: {error}", file=sys.stderr)  # noqa: T201 - one line for the service's log
        return 1
    telemetry = setup("catalogue")
    uvicorn.run(app.build(served, telemetry), host=url.hostname, port=url.port, log_level="warning", access_log=False)
    telemetry.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
