"""Does the slot hold all that Debezium has not committed; and the steps by which it is made anew: stop, forget, drop, resume.

In: Connect's REST interface, PostgreSQL. Out: a `Stream`, what is lost of it. Keep: `lost` is pure; each step may be done again; the slot is looked at before the offsets, which
only grow, so that a stream that is well never looks as if it had a gap.

Sources: Kafka's documentation, "Kafka Connect", 8.2 REST API (KIP-875: offsets of a connector that is stopped); PostgreSQL's manual, 52.19 (pg_replication_slots); Debezium's
offsets `lsn`, `lsn_proc` and `lsn_commit`, of which it confirms the last that is there to the slot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx

from weir.connect import register
from weir.contracts import cdc, tls, wayback
from weir.contracts.endpoints import Endpoints
from weir.errors import ServiceFailed, Unavailable

WAIT_S: Final = 60.0  # a task ends within 5 s (task.shutdown.graceful.timeout.ms), a rebalance takes some more


class Loss(StrEnum):
    """Why the stream cannot go on by itself."""

    GONE = "there is none"
    INVALID = "it is lost"
    ANEW = "it was made anew past what Debezium had committed"


@dataclass(frozen=True, slots=True)
class Stream:
    """Where it stands. `state`: the connector's in Connect, `UNREGISTERED` when it is not known there; `task`: RUNNING, STARTING or FAILED, `trace` the first line that it left.

    `committed_lsn`: what Debezium has committed; None: nothing yet. `wal_status`: of the slot, empty when there is none; `slot_lsn`: from where it sends; `reader`: the process that reads it.
    """

    state: str
    task: str
    trace: str
    committed_lsn: int | None
    wal_status: str
    slot_lsn: int | None
    reader: int | None
    now_lsn: int
    reason: str = ""  # PostgreSQL's invalidation_reason


def lost(s: Stream) -> Loss | None:
    """Return what was lost; None: the slot has all that is owed, or nothing was committed yet. Pure."""
    if s.wal_status == "lost":
        return Loss.INVALID
    if s.committed_lsn is None and wayback.GAP not in s.trace:
        return None
    if not s.wal_status:
        return Loss.GONE
    apart = s.reader is None and s.slot_lsn is not None and s.committed_lsn is not None and s.slot_lsn > s.committed_lsn
    return Loss.ANEW if apart or (s.task == "FAILED" and wayback.GAP in s.trace) else None


def committed(document: dict[str, Any]) -> int | None:
    """Return the highest LSN in Connect's document of a connector's offsets; None: it has none. Pure."""
    found = [int(o["offset"][k]) for o in document.get("offsets", []) for k in ("lsn", "lsn_proc", "lsn_commit") if (o.get("offset") or {}).get(k) is not None]
    return max(found) if found else None


_SLOT: Final = """
SELECT coalesce(s.wal_status, CASE WHEN s.slot_name IS NULL THEN '' ELSE 'lost' END), s.confirmed_flush_lsn - '0/0'::pg_lsn, s.active_pid, pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
  coalesce(to_jsonb(s) ->> 'invalidation_reason', '')
FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = %s
"""


class Slot:
    """Looks at the stream and takes the steps."""

    def __init__(self, endpoints: Endpoints, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._endpoints, self._clock, self._sleep = endpoints, clock, sleep

    def look(self) -> Stream:
        """Return where it stands.

        Raises:
            Unavailable: PostgreSQL or Connect could not be asked.
        """
        row = self._sql(_SLOT, cdc.SLOT)
        status, offsets = self._get("status"), self._get("offsets")
        if status is None:
            return Stream("UNREGISTERED", "NONE", "", None, row[0], row[1] and int(row[1]), row[2], int(row[3]), row[4])
        task, _ = register.state(status)
        parts = [status.get("connector", {}), *status.get("tasks", [])]
        trace = next((str(p["trace"]) for p in parts if p.get("state") == "FAILED" and p.get("trace")), "").split("\n", 1)[0]
        at = None if row[1] is None else int(row[1])
        return Stream(str(status.get("connector", {}).get("state", "")), task, trace, committed(offsets or {}), row[0], at, row[2], int(row[3]), row[4])

    def let_go(self) -> None:
        """Stop the connector, forget its offsets and drop the slot, whichever of that is still to be done.

        Raises:
            ServiceFailed: Connect does not do so in time, or another process reads the slot. Unavailable: a part does not answer.
        """
        self._ask("PUT", "stop")
        self._until(lambda: (self._get("status") or {}).get("connector", {}).get("state") == "STOPPED", "the connector was not stopped in time")
        self._until(lambda: self._sql(_SLOT, cdc.SLOT)[2] is None, f"slot {cdc.SLOT} is read still, by another process than our connector",
                    hint=f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{cdc.SLOT}' names it; end it, then run this again")
        self._ask("DELETE", "offsets")
        self._sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND active_pid IS NULL", cdc.SLOT)

    def resume(self) -> None:
        """Have the connector run; harmless where it does. Raises as `let_go`."""
        self._ask("PUT", "resume")

    def _sql(self, statement: str, name: str) -> Any:
        import psycopg

        try:
            with psycopg.connect(self._endpoints.postgres_dsn, connect_timeout=5, autocommit=True) as c:
                return c.execute(statement.encode(), (name,)).fetchone()
        except psycopg.Error as error:
            raise Unavailable(f"PostgreSQL could not be asked for the slot: {str(error).strip()}", hint="./weir logs postgres shows why") from error

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._endpoints.connect_url, timeout=20, verify=tls.context())

    def _get(self, what: str) -> dict[str, Any] | None:
        """Return a document about the connector; None: Connect does not know it."""
        try:
            with self._client() as client:
                found = client.get(f"/connectors/{cdc.CONNECTOR}/{what}")
                if found.status_code == httpx.codes.NOT_FOUND:
                    return None
                document: dict[str, Any] = found.raise_for_status().json()
                return document
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"Kafka Connect does not tell the connector's {what}: {error}", hint="./weir logs connect shows why") from error

    def _ask(self, method: str, what: str) -> None:
        """Ask Connect for something that it may refuse for a while: 409 while it rebalances, 500 while a task of before ends."""
        told = "no answer"

        def done() -> bool:
            nonlocal told
            try:
                with self._client() as client:
                    answer = client.request(method, f"/connectors/{cdc.CONNECTOR}/{what}")
            except httpx.HTTPError as error:
                told = str(error)
                return False
            told = answer.text[:300]
            return answer.is_success

        self._until(done, f"Connect refuses to {method} {what} of connector {cdc.CONNECTOR}", more=lambda: f": {told}")

    def _until(self, done: Callable[[], bool], what: str, *, hint: str = "./weir logs connect shows more; then run this again", more: Callable[[], str] = lambda: "") -> None:
        deadline = self._clock() + WAIT_S
        while not done():
            if self._clock() > deadline:
                raise ServiceFailed(f"{what}{more()}", hint=hint)
            self._sleep(0.5)
