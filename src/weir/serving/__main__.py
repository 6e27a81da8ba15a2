"""`python -m weir.serving [--workers N]`: serve the recommendations API at WEIR_API_URL until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from urllib.parse import urlsplit

import uvicorn

from weir.errors import WeirError
from weir.serving.app import from_environment


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m weir.serving", description=__doc__)
    parser.add_argument("--workers", type=int, default=int(os.environ.get("WEIR_API_WORKERS", "1")), help="processes")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (loopback unless told otherwise)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    url = urlsplit(os.environ.get("WEIR_API_URL", "http://127.0.0.1:17011"))
    try:
        app = from_environment()  # also the check of the environment, before workers fail one by one
    except WeirError as error:
        sys.exit(str(error))
    uvicorn.run(
        "weir.serving.app:from_environment" if arguments.workers > 1 else app,
        factory=arguments.workers > 1,
        workers=arguments.workers if arguments.workers > 1 else None,
        host=arguments.host,
        port=url.port or 17011,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
