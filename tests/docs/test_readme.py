"""The README tells the truth about commands, stages and links."""
import re
from pathlib import Path

from weir.cli.app import app
from weir.contracts.path import PATH
from weir.stack import services, settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_every_command_in_the_readme_exists():
    known = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
    named = set(re.findall(r"\./weir ([a-z]+)", README))
    assert named
    assert named - known == set()


def test_the_readmes_path_is_the_contracts_path():
    rows = re.findall(r"^\| (\w+) \| ([\w ]+) \| `(\w+)/` \|$", README, re.MULTILINE)
    assert rows == [(s.name, " ".join(s.services), s.folder) for s in PATH]


def test_every_service_and_what_runs_beside_them_is_in_the_readmes_table(tmp_path):
    local = settings.load({"WEIR_ROOT": str(ROOT), "WEIR_HOME": str(tmp_path)})
    named = {word for row in re.findall(r"^\| [\w() ]+ \| ([\w ]+) \| `.*\|$", README, re.MULTILINE) for word in row.split()}
    assert set(services.names(local)) - named == set()


def test_every_page_of_the_reference_is_named():
    pages = {p.name for p in (ROOT / "docs" / "reference").glob("*.md")}
    assert {p for p in pages if p not in (ROOT / "docs" / "README.md").read_text()} == set()


def test_every_link_of_the_top_documents_leads_somewhere():
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name}: {target}"
