"""The house rules that a machine can check."""
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
OUTSIDE = ("connect", "ingest", "dbt", "feature_repo", "dashboards", "chaos", "telemetry", "cost", "deploy", "bench", "reconcile", "gateway")


def _sources():
    return sorted((ROOT / "src").rglob("*.py"))


def test_no_module_is_longer_than_400_lines():
    assert [f"{p}: {n}" for p in _sources() if (n := p.read_text().count("\n")) > 400] == []


def test_no_module_has_a_name_that_says_nothing():
    assert [str(p) for p in _sources() if p.stem in BANNED] == []


@pytest.mark.parametrize("folder", OUTSIDE)
def test_every_folder_outside_says_what_enters_and_leaves(folder):
    assert (ROOT / folder / "README.md").exists()


def test_the_folder_dbt_holds_no_python():
    assert list((ROOT / "dbt").rglob("*.py")) == []


def test_every_model_has_its_yml_beside_it():
    models = list((ROOT / "dbt" / "models").rglob("*.sql"))
    assert models
    assert [str(p) for p in models if not p.with_suffix(".yml").exists()] == []


def test_no_ignore_is_without_a_reason():
    pattern = re.compile(r"#\s*(noqa|type:\s*ignore)(?![^\n]*( - | -- |\([a-z]{3}|because|reason))")
    found = [f"{p.relative_to(ROOT)}:{i}" for p in _sources() for i, line in enumerate(p.read_text().splitlines(), 1) if pattern.search(line)]
    assert found == []


def test_nothing_tracked_names_a_registry_host_or_a_machine_path():
    hosts = re.compile(r"(pypi\.org|files\.pythonhosted|repo1?\.maven|registry\.npmjs|/root/|/work/|/tmp/env)")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    found = []
    for name in files:
        path = ROOT / name
        if path == Path(__file__) or not path.is_file() or path.suffix in {".png", ".parquet"}:
            continue
        if hosts.search(path.read_text(errors="replace")):
            found.append(name)
    assert found == []
