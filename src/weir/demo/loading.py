"""Load the demo's data through the real path, once; on a stack whose last load is an hour old, what falls in the last hour once more, so that one-hour windows live.

In: the data set, a running stack. Out: rows, records, a journal under WEIR_HOME/demo. Keep: a load that was interrupted goes on with the
events that have not landed; one that is complete and whose last hour is not over is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from weir.contracts.endpoints import Endpoints
from weir.demo import reconcile
from weir.demo.result import Counts
from weir.errors import Terminal
from weir.ingest.clickhouse import ClickHouse
from weir.simulation import dataset, derive, export, journal, produce

_COMMAND_S: Final = 240  # the slowest, dbt build, takes about 20 s on two cores


def journal_path(home: Path) -> Path:
    """Return where the load's journal is."""
    return home / "demo" / "journal.json"


def command(name: str, arguments: list[str], environment: Mapping[str, str], home: Path) -> None:
    """Run a command of the locked environment; its output goes to WEIR_HOME/logs/demo-<name>.log.

    Raises:
        Terminal: it failed or took too long; tells its last line.
    """
    log = home / "logs" / f"demo-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH') or os.environ.get('PATH', '')}"
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                arguments, env={**os.environ, **environment, "PATH": path}, stdout=file, stderr=subprocess.STDOUT, timeout=_COMMAND_S, check=False,
                cwd=environment.get("WEIR_ROOT") or None,
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Terminal(f"{name} failed ({code}): {lines[-1][-200:] if lines else 'it said nothing'}", hint=f"its whole output is in {log}")


def profiles(endpoints: Endpoints, home: Path) -> None:
    """Export the user profiles to Parquet and load them; the as-of time is the first load's, so a repeat is recognized."""
    from weir.ingest import profiles as loader

    path = home / "demo" / "user_profiles.parquet"
    if not path.exists():
        export.write_parquet(path, datetime.now(UTC))
    loader.load(endpoints.clickhouse_url, path)


def _due(found: journal.Journal | None, now_ms: int) -> journal.Journal:
    """Return the journal of the load that is due: the one that was found, or another after it once its last hour is over. Pure."""
    if found is None:
        return journal.Journal(derive.DEFAULT_SEED, now_ms)
    if found.complete and now_ms - found.now_ms >= derive.HOUR_MS:
        return journal.Journal(found.seed, now_ms, again=found.again + 1)
    return found


def events(
    endpoints: Endpoints, client: ClickHouse, home: Path, report: Callable[[produce.Progress], None], waiting: Callable[[Counts], None]
) -> tuple[journal.Journal, bool]:
    """Produce the events that are not there yet; return the journal, and whether anything was produced."""
    path = journal_path(home)
    found = journal.load(path)
    record = _due(found, int(time.time() * 1000))
    if record.complete:
        return record, False
    skip: set[str] = set()
    if record is found:
        reconcile.wait(endpoints, client, waiting, staged=False)  # what was sent before the interruption has landed now
        skip = reconcile.landed_ids(client, record)
        record = journal.Journal(record.seed, record.now_ms, again=record.again)
    record.save(path)
    for event_id in skip:
        record.note(event_id)
    data = dataset.read(dataset.directory())
    stream = (e for e in derive.events(data, record.now_ms, record.seed, again=record.again) if e.event_id not in skip)
    bad = [] if record.again else derive.bad_events(record.seed, record.now_ms)  # they are in the quarantine since the first
    total = 3 * int(len(data.ratings) * (derive.LAST_SHARE if record.again else 1)) - len(skip)
    produce.events(endpoints.kafka_bootstrap, stream, record, bad=bad, total=total, report=report)
    record.save(path)
    return record, True
