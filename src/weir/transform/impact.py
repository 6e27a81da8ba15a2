"""What a column of a keyed table reaches: dbt models, features, dashboards and other exposures, from dbt's manifest.

In: manifest.json (schema v12), a keyed table, a column. Out: `Impact`. Keep: pure but for reading the file; a model that names the column, or takes all
columns of one that has it, is hit, and so is whatever is built on a model that names it; what only stands beside it is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weir.contracts.features import FEATURE_VIEWS
from weir.errors import Undecided

_STAR = re.compile(r"select\s+\*|\.\*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Impact:
    """Names of what a column reaches. `features`: view.feature where the feature bears the column's name, else the whole view."""

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    exposures: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = (("models", self.models), ("features", self.features), ("exposures", self.exposures))
        told = "; ".join(f"{what} {', '.join(found)}" for what, found in parts if found)
        return f"hits {told}" if told else "hits no dbt model"


def manifest(home: Path, root: Path) -> dict[str, Any]:
    """Read the newest manifest that dbt wrote.

    Raises:
        Undecided: there is none yet.
    """
    ran = (home / "dbt", home / "dbt" / "by-hand", root / "dbt")  # the stack, `./weir run dbt`, and dbt without Weir
    found = [p for folder in ran if (p := folder / "target" / "manifest.json").exists()]
    if not found:
        raise Undecided("dbt has written no manifest, so what a column reaches is not known", hint="./weir run dbt build")
    document: dict[str, Any] = json.loads(max(found, key=lambda p: p.stat().st_mtime).read_text())
    return document


def _relation(node: Mapping[str, Any]) -> str:
    return re.sub(r"[`\"]", "", str(node.get("relation_name") or ""))


def reach(document: Mapping[str, Any], keyed: str, column: str) -> Impact:
    """Return what a column of the keyed table `database.table` reaches."""
    nodes: Mapping[str, Any] = document["nodes"]
    models = {i: n for i, n in nodes.items() if n["resource_type"] == "model"}
    word = re.compile(rf"\b{re.escape(column)}\b")
    hit: set[str] = set()
    named: set[str] = set()
    ahead = [i for i, n in models.items() if _relation(n) == keyed]
    ahead += [i for i, s in document.get("sources", {}).items() if _relation(s) == keyed]
    seen: set[str] = set()
    while ahead:
        here = ahead.pop()
        code = re.sub(r"--[^\n]*|\{#.*?#\}", "", str(models[here].get("raw_code") or ""), flags=re.DOTALL) if here in models else ""
        first = here not in models or _relation(models[here]) == keyed
        if here in models and (first or word.search(code)):
            named.add(here)
        if not (first or here in named or _STAR.search(code)) or here in seen:
            continue
        seen.add(here)
        if here in models:
            hit.add(here)
        ahead += [c for c in document["child_map"].get(here, ()) if c in models]
    hit |= _built_on(document, {i for i in named if _relation(models[i]) != keyed}, set(models))
    marts = {models[i]["name"] for i in hit}
    features = [f"{v.name}.{column}" if any(n == column for n, _ in v.features) else v.name for v in FEATURE_VIEWS if v.mart in marts]
    exposures = [f"{e['name']} ({e['type']})" for e in document.get("exposures", {}).values() if set(e["depends_on"]["nodes"]) & hit]
    return Impact(tuple(sorted(marts)), tuple(sorted(features)), tuple(sorted(exposures)))


def _built_on(document: Mapping[str, Any], start: set[str], models: set[str]) -> set[str]:
    found, ahead = set(start), list(start)
    while ahead:
        for child in document["child_map"].get(ahead.pop(), ()):
            if child in models and child not in found:
                found.add(child)
                ahead.append(child)
    return found
