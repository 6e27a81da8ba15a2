"""The catalogue's entries, read from the data set's item file.

In: ml-100k.item (tab-separated, one header line). Out: Protobuf entries in order of id. Keep: the same file makes the same entries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from weir.contracts.catalogue import ItemCatalogueEntry, ItemCataloguePage
from weir.errors import SettingsError

FILE: Final = "ml-100k.item"
VERSION: Final = 1
PAGE_LIMIT: Final = 500  # entries a page: about 40 kB


def path(environment: Mapping[str, str] | None = None) -> Path:
    """Return the item file under WEIR_DATASET_DIR.

    Raises:
        SettingsError: the variable is not set, or there is no such file.
    """
    folder = (os.environ if environment is None else environment).get("WEIR_DATASET_DIR", "")
    if not folder or not (Path(folder) / FILE).is_file():
        raise SettingsError(f"WEIR_DATASET_DIR has no file {FILE}", hint="run this through ./weir run, which sets it", key="WEIR_DATASET_DIR")
    return Path(folder) / FILE


def read(file: Path) -> list[Any]:
    """Return one entry a line, by id; `updated_at_ms` is the file's own time; a year that is no number is 0."""
    updated_at_ms = int(file.stat().st_mtime * 1000)
    entries = []
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        item_id, title, year, genres = [*line.split("\t"), "", "", ""][:4]
        entries.append(
            ItemCatalogueEntry(
                item_id=int(item_id), title=title or f"item {item_id}", genres=genres.split(), release_year=int(year) if year.isdigit() else 0,
                is_active=True, catalogue_version=VERSION, updated_at_ms=updated_at_ms,
            )
        )
    return sorted(entries, key=lambda e: int(e.item_id))


def page(entries: Sequence[Any], after: int, limit: int) -> Any:
    """Return the page of entries with ids above `after`; `next_after` is 0 on the last page. Pure."""
    limit = max(1, min(limit, PAGE_LIMIT))
    due = [e for e in entries if e.item_id > after][: limit + 1]
    shown = due[:limit]
    return ItemCataloguePage(items=shown, next_after=shown[-1].item_id if len(due) > limit else 0)
