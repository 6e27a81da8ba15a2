"""telemetry/registry.yaml and the names used in src/ are the same set."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
USE = re.compile(r"\.(count|gauge|record|timed|span)\(\s*\"(weir\.[a-z0-9_.]+)\"")


def _used():
    found = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for kind, name in USE.findall(path.read_text()):
            found.setdefault(name, set()).add("record" if kind == "timed" else kind)  # it records the milliseconds of a block
    return found


def _registry():
    return yaml.safe_load((ROOT / "telemetry" / "registry.yaml").read_text())


def test_every_name_in_use_is_registered_with_its_kind():
    registry, missing = _registry(), []
    for name, kinds in _used().items():
        known = {"span"} if name in registry["spans"] else {registry["metrics"].get(name, {}).get("kind")}
        if kinds != known:
            missing.append(f"{name}: {sorted(kinds)}")
    assert missing == []


def test_every_registered_name_is_in_use():
    registry = _registry()
    assert sorted((set(registry["metrics"]) | set(registry["spans"])) - set(_used())) == []


def test_the_attributes_of_registered_names_are_those_described():
    registry = _registry()
    entries = [*registry["metrics"].values(), *registry["spans"].values()]
    assert {a for e in entries for a in e.get("attributes", ())} == set(registry["attributes"])
