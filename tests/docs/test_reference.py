"""The pages that are looked up name all that there is, and nothing that is not."""
import re
from pathlib import Path

from weir.contracts import retention
from weir.contracts.endpoints import Endpoints
from weir.stack import accounts, settings
from weir.topics import client

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
VARIABLE = re.compile(r"\bWEIR_[A-Z][A-Z_]*[A-Z]\b")


def _read_in_code():
    texts = [p.read_text() for p in [*(ROOT / "src").rglob("*.py"), ROOT / "weir"]]
    given = {*Endpoints.local().environment(), *retention.Retention().environment()}
    return {name for text in texts for name in VARIABLE.findall(text)} | {name for name in given if name.startswith("WEIR_")}


def test_every_variable_of_the_code_is_on_the_settings_page_and_no_other():
    read = _read_in_code()
    assert len(read) > 20
    assert set(VARIABLE.findall((REFERENCE / "settings.md").read_text())) == read


def test_the_keys_of_the_settings_file_are_on_its_page_with_their_form():
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| `(.+)` \|$", (REFERENCE / "settings.md").read_text(), re.MULTILINE))
    assert rows == {key: example for key, (_, example) in settings.FORMS.items()}
    assert set(rows) == {*settings.EXTERNAL, settings.CLIENT}


def test_the_keys_of_the_kafka_client_file_are_on_the_settings_page_and_no_others():
    page = (REFERENCE / "settings.md").read_text()
    assert set(re.findall(r"`((?:security|sasl|ssl)\.[a-z.]+)`", page)) == set(client.KEYS)


def test_the_users_that_a_first_start_makes_are_those_of_the_page():
    page = (REFERENCE / "clickhouse-limits.md").read_text()
    listed = re.search(r"first start makes users\s+(.+?);", page, re.DOTALL)
    assert listed
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(accounts.USERS)


def test_every_room_is_in_the_architectures_table():
    rows = re.findall(r"^\| (`.+?`) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    named = {room for row in rows for room in re.findall(r"`(\w+)`", row)}
    assert named == {p.parent.name for p in (ROOT / "src" / "weir").glob("*/__init__.py")}


def test_every_guide_is_named_and_each_of_its_links_leads_somewhere():
    guides = sorted((ROOT / "docs" / "guides").glob("*.md"))
    assert guides
    listed = (ROOT / "docs" / "README.md").read_text()
    assert [g.name for g in guides if g.name not in listed] == []
    assert [f"{g.name}: {t}" for g in guides for t in re.findall(r"\]\(([^)#:]+)\)", g.read_text()) if not (g.parent / t).exists()] == []


def test_every_file_that_a_guide_or_a_decision_names_is_there():
    texts = [*(ROOT / "docs" / "guides").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    named = [(p.name, n) for p in texts for n in re.findall(r"`((?:src|tests|dbt|feature_repo|docs|telemetry|connect)/[\w./-]+\.\w+)`", p.read_text())]
    assert len(named) > 10
    assert [f"{page}: {name}" for page, name in named if not (ROOT / name).exists()] == []
