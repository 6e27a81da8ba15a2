"""`python -m weir.cli`: what the launcher hands over to."""

from __future__ import annotations

from weir.cli.app import main

main()
