"""Topics into landing tables, each accepted record once, whatever is killed.

In: Kafka topics of `ingest/routes.yaml`. Out: landing tables, the quarantine, the ledger. Keep: docs/decisions/0001-exactly-once-ingest.md.
"""

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when polars is imported; the second core is the engine's
