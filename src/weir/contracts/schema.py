"""A captured table's columns as the source's catalog tells them, and what has changed since they were accepted.

In: the columns that were accepted and those that there are. Out: `Change`s, each safe or not. Keep: pure; a change is safe only when no row lands as
another value than the source has: what nobody reads may go, what is new may come, and everything else stops the table (docs/decisions/0015).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from weir.contracts import source_types


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column. `type`: as format_type() says it, domains as their base type, enum types as `enum`. `position`: pg_attribute.attnum, which a rename keeps.

    `generated`: PostgreSQL's attgenerated, `s` stored or `v` virtual; empty: none. `default`: its expression.
    """

    name: str
    type: str
    nullable: bool = True
    position: int = 0
    default: str = ""
    generated: str = ""

    @property
    def lands(self) -> bool:
        """Say whether it is in change records in a form that was tested; a virtual column is in none."""
        return self.generated != "v" and source_types.landing(self.type) is not None


class Kind(StrEnum):
    """What happened to a column."""

    ADDED = "added"
    DROPPED = "dropped"
    RENAMED = "renamed"
    TYPE = "type changed"
    NULLABLE = "NOT NULL dropped"
    NOT_NULL = "NOT NULL set"
    DEFAULT = "default changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one column, `column` being its accepted name (of an added one, its own). `why`: what it means for the rows, in one sentence."""

    kind: Kind
    column: str
    safe: bool
    why: str

    def __str__(self) -> str:
        return f"{self.column} {self.kind}: {self.why}"


def _added(now: SourceColumn) -> Change:
    if now.generated == "v":
        return Change(Kind.ADDED, now.name, safe=True, why="computed when read, so it is in no change and lands nowhere")
    if not now.lands:
        return Change(Kind.ADDED, now.name, safe=False, why=f"type {now.type} would arrive {source_types.refusal(now.type)}")
    old = f"old rows have its default {now.default}, read again" if now.default else "old rows are null"
    return Change(Kind.ADDED, now.name, safe=True, why=f"{now.type}; {old}")


def _altered(was: SourceColumn, now: SourceColumn, *, used: bool) -> list[Change]:
    found = []
    if was.type != now.type or was.generated != now.generated:
        same = source_types.landing(was.type) == source_types.landing(now.type) is not None and now.generated == was.generated
        why = "lands as before" if same else ("nothing reads it" if not used else f"{was.type} became {now.type}, which would be read as another value")
        found.append(Change(Kind.TYPE, was.name, same or not used, why))
    if now.nullable and not was.nullable:
        found.append(Change(Kind.NULLABLE, was.name, not used, "a null would land as a default" if used else "nothing reads it"))
    elif was.nullable and not now.nullable:
        found.append(Change(Kind.NOT_NULL, was.name, safe=True, why="no row lands otherwise"))
    if was.default != now.default:
        found.append(Change(Kind.DEFAULT, was.name, safe=True, why=f"{was.default or 'none'} became {now.default or 'none'}, which rows bring with them"))
    return found


def changes(accepted: Sequence[SourceColumn], now: Sequence[SourceColumn], used: Collection[str]) -> list[Change]:
    """Return what differs, in the order of the accepted columns, then of the new ones.

    Args:
        accepted: the columns that rows were read by up to now.
        now: what the catalog has; none at all: the table is gone.
        used: names of accepted columns that the keyed table has; what is not read may change freely.
    """
    by_name, by_position = {c.name: c for c in now}, {c.position: c for c in now if c.position}
    known, found = {c.name for c in accepted}, []
    renamed = set()
    for was in accepted:
        there = by_name.get(was.name)
        if there is not None and (there.position == was.position or not was.position):
            found += _altered(was, there, used=was.name in used)
            continue
        moved = by_position.get(was.position)
        read = was.name in used
        if moved is not None and moved.name not in known:
            renamed.add(moved.name)
            why = f"rows have it as {moved.name}, and would be read as without it" if read else f"to {moved.name}; nothing reads it"
            found.append(Change(Kind.RENAMED, was.name, not read, why))
            found += [c for c in _altered(was, moved, used=read) if not c.safe]
        else:
            again = " (and another column of that name was added)" if there is not None else ""
            found.append(Change(Kind.DROPPED, was.name, not read, f"rows would be read as without it{again}" if read else "nothing reads it"))
    return found + [_added(c) for c in now if c.name not in known and c.name not in renamed]
