"""`python -m weir.quality [--json]`: the verdict now. Exit status 0 yes, 1 no, 2 unknown."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from weir.contracts import captured
from weir.contracts.endpoints import Endpoints
from weir.errors import WeirError
from weir.quality import Report, ask_pipeline, event_facts, recovery, terminal, verdict
from weir.quality.pipeline import Pipeline

STATUS = {"yes": 0, "no": 1, "unknown": 2}


def document(report: Report, about: Pipeline) -> dict[str, object]:
    """Return the report, the connector, the slot, what was verified, late and repeated events and when recovery was proven as a JSON document."""
    partitions = [asdict(p) | {"lag": p.lag} for p in report.partitions]
    verified = None if about.verified is None else [asdict(v) | {"lsn": v.lsn} for v in about.verified]
    tables = None if about.captured is None else captured.told(about.captured)
    proofs = recovery.document(about.recovery or (), report.checked_at_ms)
    told = {"partitions": partitions, "reasons": list(report.reasons)}
    return asdict(report) | told | asdict(about) | {"verified": verified, "captured": tables, "recovery": proofs, "events": event_facts.document(about.events)}


def main() -> None:
    """Ask, print, and exit by the verdict."""
    parser = argparse.ArgumentParser(prog="python -m weir.quality", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    try:
        endpoints = Endpoints.from_environment()
        home = Path(os.environ.get("WEIR_HOME", ".weir"))
        about = ask_pipeline(endpoints, home)
        report = verdict(endpoints, home, about=about)
    except WeirError as error:
        sys.exit(str(error))
    if arguments.json:
        sys.stdout.write(json.dumps(document(report, about)) + "\n")
    else:
        sys.stdout.write(f"correct: {report.verdict}\n" + "".join(f"  {r}\n" for r in report.reasons))
        if report.checked_since_ms is not None:
            sys.stdout.write(f"below the marks: all checked within {(report.checked_at_ms - report.checked_since_ms) / 3_600_000:.1f} h\n")
        for hop in report.hops:
            sys.stdout.write(f"{hop.name}: {'unknown' if hop.age_ms is None else f'{hop.age_ms / 1000:.1f} s old'}\n")
        for v in about.verified or ():
            sys.stdout.write(f"{v.name}: verified through {v.lsn}\n")
        sys.stdout.write("".join(f"{line}\n" for line in event_facts.lines(about.events)))
        sys.stdout.write("".join(f"{line}\n" for line in terminal.recovery_lines(about.recovery or (), report.checked_at_ms)))
    sys.exit(STATUS[report.verdict])


if __name__ == "__main__":
    main()
