"""The house rules that a machine can check."""
import ast
import re
import subprocess
from pathlib import Path

import pytest

from weir.contracts import home

ROOT = Path(__file__).resolve().parents[2]
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
OUTSIDE = ("connect", "ingest", "dbt", "feature_repo", "dashboards", "chaos", "telemetry", "cost", "deploy", "bench", "reconcile", "gateway")


LINES_MAX = 400
FUNCTION_LINES_MAX = 60  # what fits a screen


def _sources():
    return sorted((ROOT / "src").rglob("*.py"))


def _programs():
    """Everything in Python that is no test: the package, the folders outside, the launcher."""
    return [*_sources(), *(p for folder in OUTSIDE for p in sorted((ROOT / folder).rglob("*.py"))), ROOT / "weir"]


def test_no_module_is_longer_than_400_lines():
    assert [f"{p}: {n}" for p in _programs() if (n := p.read_text().count("\n")) > LINES_MAX] == []


def test_no_function_is_longer_than_a_screen():
    functions = [(p, node) for p in _programs() for node in ast.walk(ast.parse(p.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(functions) > 1000
    assert [f"{p}:{f.lineno} {f.name}: {n}" for p, f in functions if (n := f.end_lineno - f.lineno + 1) > FUNCTION_LINES_MAX] == []


def test_every_folder_of_weir_home_is_named_where_clean_looks():
    used = {name for p in [*_sources(), *(ROOT / "bench").rglob("*.py")] for name in re.findall(r"\bhome / \"([^\"]+)\"", p.read_text())}
    used |= set(re.findall(r"\{settings\.home\}/(\w+)|\{self\.home\}/(\w+)", "".join(p.read_text() for p in _sources()))[0]) - {""}
    assert {"postgres", "mlflow", "evidence"} <= used
    below = {"trails", "floor", "java"}  # in the homes that `./weir torture` and `./weir bench race` make below WEIR_HOME
    assert {n for n in used - {"dataset"} - home.KEPT - {"logs", "target"} - below if not home.is_data(n)} == set()


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


# `noqa: CODE - why` or `type: ignore[code]  # (library) why`: two words at least, and never every rule at once.
IGNORE = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b")
REASONED = re.compile(r"#\s*(?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)* - |type: ignore\[[\w, -]+\]  # (?:\(\w+\) )?)\S*\w\S* .*\w")


@pytest.mark.parametrize(("line", "reasoned"), [
    ("x = 1  # noqa: S311 - repeatable on purpose", True), ("x = y  # type: ignore[misc]  # (dyn) built by descriptor", True), ("x = 1  # noqa: S101, PT018 - narrows types", True),
    ("x = y  # type: ignore[misc]  # (dyn)", False), ("import a  # noqa: F401", False), ("import a  # noqa - all of them", False), ("x = y  # type: ignore", False),
])  # fmt: skip
def test_a_reason_is_words(line, reasoned):
    assert bool(REASONED.search(line)) == reasoned


def test_no_ignore_is_without_a_reason():
    files = [p for p in [*_programs(), *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").glob("*.py")] if p != Path(__file__)]
    lines = [(f"{p.relative_to(ROOT)}:{i}", line) for p in files for i, line in enumerate(p.read_text().splitlines(), 1) if IGNORE.search(line)]
    assert len(lines) > 100
    assert [where for where, line in lines if not REASONED.search(line)] == []


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


def test_every_http_client_shares_the_processes_tls_context():
    """httpx reads the certificate authorities anew for a client that brings no context: 20 to 60 ms of a core, which a look each second would take each second."""
    makes = {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "head", "request", "stream"}
    calls = [
        (p, node) for p in _sources() for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "httpx" and node.func.attr in makes
    ]
    assert len(calls) > 10
    assert [f"{p}:{node.lineno}" for p, node in calls if "verify" not in {k.arg for k in node.keywords}] == []


def test_every_kafka_client_is_made_with_what_one_module_says_of_its_brokers():
    """A client that names its brokers itself would speak to somebody's own Kafka without TLS and credentials."""
    names = {"bootstrap.servers", "metadata.broker.list"}
    found = [(p, node) for p in _sources() for node in ast.walk(ast.parse(p.read_text())) if isinstance(node, ast.Constant) and node.value in names]
    assert [f"{p.relative_to(ROOT / 'src' / 'weir')}:{node.lineno}" for p, node in found if p != ROOT / "src" / "weir" / "topics" / "client.py"] == []
    assert len(found) == 1
