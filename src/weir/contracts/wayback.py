"""The mark of a way back from a lost slot that is under way: written by `./weir connector recover`, read by it again and by the verdict.

In: the text of WEIR_HOME/connect/way-back.json. Out: `WayBack` values. Keep: pure; the mark is there from before anything is changed until every table was proven.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from weir.errors import ContractViolation

COMMAND: Final = "./weir connector recover"
GAP: Final = "no longer available on the server"  # what Debezium says of a position that the slot does not have
_NAME: Final = "way-back.json"


@dataclass(frozen=True, slots=True)
class WayBack:
    """What was lost and how far the way back is. `since_lsn`: the last that Debezium had committed (0: not known); `until_lsn`: where the source was when the slot was let go.

    `reading`: the offsets and the slot of before are gone, and Debezium reads anew; `tables`: names of those that are not proven yet, None before they were listed.
    """

    why: str
    since_lsn: int
    until_lsn: int
    began_at_ms: int
    reading: bool = False
    tables: tuple[str, ...] | None = None


def path(home: Path) -> Path:
    """Return where the mark is."""
    return home / "connect" / _NAME


def document(mark: WayBack) -> str:
    """Return the mark's text. Pure."""
    return json.dumps(asdict(mark))


def parse(text: str) -> WayBack:
    """Read a mark. Pure.

    Raises:
        ContractViolation: it is none.
    """
    try:
        found = json.loads(text)
        tables = found["tables"]
        return WayBack(**{**found, "tables": None if tables is None else tuple(tables)})
    except (ValueError, TypeError, KeyError) as error:
        raise ContractViolation("the mark of a way back from a lost slot is not readable", hint="delete WEIR_HOME/connect/way-back.json; ./weir reconcile --once shows what differs") from error
