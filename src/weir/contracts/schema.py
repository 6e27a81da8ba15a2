"""A captured table's columns as the source's catalog tells them."""

from __future__ import annotations

from dataclasses import dataclass

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
