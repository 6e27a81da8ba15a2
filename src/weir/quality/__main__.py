"""`python -m weir.quality [--json]`: the verdict now. Exit status 0 yes, 1 no, 2 unknown."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from weir.contracts.endpoints import Endpoints
from weir.errors import WeirError
from weir.quality import Report, verdict

STATUS = {"yes": 0, "no": 1, "unknown": 2}


def document(report: Report) -> dict[str, object]:
    """Return the report as a JSON document."""
    partitions = [asdict(p) | {"lag": p.lag} for p in report.partitions]
    return asdict(report) | {"partitions": partitions, "reasons": list(report.reasons)}


def main() -> None:
    """Ask, print, and exit by the verdict."""
    parser = argparse.ArgumentParser(prog="python -m weir.quality", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    try:
        report = verdict(Endpoints.from_environment())
    except WeirError as error:
        sys.exit(str(error))
    if arguments.json:
        sys.stdout.write(json.dumps(document(report)) + "\n")
    else:
        sys.stdout.write(f"correct: {report.verdict}\n" + "".join(f"  {r}\n" for r in report.reasons))
        for hop in report.hops:
            sys.stdout.write(f"{hop.name}: {'unknown' if hop.age_ms is None else f'{hop.age_ms / 1000:.1f} s old'}\n")
    sys.exit(STATUS[report.verdict])


if __name__ == "__main__":
    main()
