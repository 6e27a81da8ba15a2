"""How long the tables that only grow keep their rows; said once for the DDL of ingest and telemetry, for dbt, and for what may be compared.

In: WEIR_RETENTION_*_DAYS. Out: `Retention`, DDL with its days. Keep: landing tables and the ledger are kept alike and outlast what Kafka may
still hold, so that an open batch can always be checked; dbt's tables of events outlast the landing tables, so that what is owed to them is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from weir.errors import SettingsError

# A topic keeps a week, deleted by whole segments, each of which spans a week at most (log.roll.hours); a day on top for the cleaner.
KAFKA_MAX_DAYS: Final = 15
LOWEST: Final = {"landing": KAFKA_MAX_DAYS + 2, "quarantine": KAFKA_MAX_DAYS + 2, "telemetry": 1, "history": KAFKA_MAX_DAYS + 2}
HIGHEST: Final = 3650
# A quarantined record goes with its part, all of a day, and a part goes hours after its time; one whose audit rows went first would be open again, and could be replayed again.
AUDIT_SPARE_DAYS: Final = 3

_TTL = re.compile(r"CREATE TABLE IF NOT EXISTS (\S+).*^TTL (.+ INTERVAL (\d+) DAY)$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Retention:
    """Days by kind: `landing` and ledger; `quarantine` and what was done about it; `telemetry`: traces, logs and metrics; `history`: dbt's tables of events."""

    landing: int = 30  # a new staging model is caught up from here
    quarantine: int = 30  # never more than landing: that a replay has landed is asked there, so its record must outlast the entry
    telemetry: int = 3
    history: int = 730  # never less than landing: each landed event is owed to the tables behind

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> Retention:
        """Read WEIR_RETENTION_LANDING_DAYS, _QUARANTINE_DAYS, _TELEMETRY_DAYS and _HISTORY_DAYS.

        Raises:
            SettingsError: one is no number of days within its bounds; names it.
        """
        found: dict[str, int] = {}
        for field in fields(Retention):
            name = variable(field.name)
            text = environment.get(name)
            if text is None:
                continue
            if not text.isdecimal() or not LOWEST[field.name] <= int(text) <= HIGHEST:
                raise SettingsError(f"{name} is {text!r}", hint=f"set it to a number of days from {LOWEST[field.name]} to {HIGHEST}, or unset it")
            found[field.name] = int(text)
        wanted = Retention(**found)
        if wanted.quarantine > wanted.landing:
            raise SettingsError(
                f"{variable('quarantine')} is {wanted.quarantine}, more than the {wanted.landing} days of landing",
                hint=f"a replay is looked for in the landing tables: raise {variable('landing')} with it",
            )
        if wanted.history < wanted.landing:
            raise SettingsError(
                f"{variable('history')} is {wanted.history}, less than the {wanted.landing} days of landing",
                hint=f"what has landed is owed to the tables behind: raise it, or lower {variable('landing')}",
            )
        return wanted

    def environment(self) -> dict[str, str]:
        """Return the variables that say it."""
        return {variable(kind): str(days) for kind, days in asdict(self).items()}

    def written_into(self, ddl: str) -> str:
        """Return DDL with the days in place of ${landing_days} and the like; ${audit_days}: of what was done about quarantined records, which outlasts them."""
        for kind, days in (asdict(self) | {"audit": self.quarantine + AUDIT_SPARE_DAYS}).items():
            ddl = ddl.replace(f"${{{kind}_days}}", str(days))
        return ddl


def variable(kind: str) -> str:
    """Return the name of the variable that sets a kind's days."""
    return f"WEIR_RETENTION_{kind.upper()}_DAYS"


def bounded(statement: str) -> tuple[str, str, str] | None:
    """Return (table, its TTL, the days as ClickHouse writes them back) of a CREATE TABLE that has a TTL, else None."""
    found = _TTL.search(statement)
    return (found[1], found[2], f"toIntervalDay({found[3]})") if found else None
