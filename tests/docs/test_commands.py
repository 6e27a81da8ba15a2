"""Every command that a text or a message tells the reader to type can be typed."""
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import typer

from weir.chaos import runner
from weir.cli.app import app
from weir.stack import services, settings

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = re.compile(r"(?<!another )(?<!other )\./weir ((?:-{0,2}[a-zA-Z_][\w-]*(?:\.\w+)*(?:[ ]|(?=[`'\",.;:)(|·…?!\n]|$)))+)")
PASSED_ON = {"run", "bench"}  # what follows belongs to the program or the benchmark
PROSE = {"makes", "is"}  # after ./weir as the launcher's name


def _texts():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    wanted = [n for n in tracked if n.endswith((".py", ".md", ".yaml", ".yml", ".toml", ".in")) and not n.startswith("tests/")] + ["weir"]
    return {name: (ROOT / name).read_text() for name in wanted}


TEXTS = _texts()
FOUND = sorted({(name, m[1].strip()) for name, text in TEXTS.items() for m in WRITTEN.finditer(text)})


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """What a command's first argument may be, where that is a closed set."""
    local = settings.load({"WEIR_ROOT": str(ROOT), "WEIR_HOME": str(tmp_path_factory.mktemp("home"))})
    return {
        "logs": {*services.names(local), "supervisord"}, "restart": set(services.names(local)),
        "bench": {p.stem for p in (ROOT / "bench").glob("*.py")}, "chaos run": set(runner.available(ROOT)),
    }


@pytest.mark.parametrize(("name", "written"), FOUND)
def test_a_command_that_is_written_can_be_typed(arguments, name, written):
    words = written.split()
    if words[0] in PROSE:
        return
    command, path, group = None, [], typer.main.get_command(app)
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        assert words[0] in group.commands, f"{name}: ./weir {written}: there is no {' '.join([*path, words[0]])}"
        command = group = group.commands[words[0]]
        path.append(words.pop(0))
    known = arguments.get(" ".join(path))
    if known is not None and words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and words[0] not in {"shows", "and", "or"}:
        assert words[0] in known, f"{name}: ./weir {written}"
    if command is not None and path[0] not in PASSED_ON:
        options = {o for p in command.params for o in p.opts} | {"--help"}
        assert {w for w in words if w.startswith("--")} - options == set(), f"{name}: ./weir {written}"


def test_enough_is_found_to_mean_something():
    assert len(FOUND) > 60
    assert {written.split()[0] for _, written in FOUND} >= {"up", "down", "demo", "logs", "run", "quarantine", "reconcile"}


def test_every_module_that_is_told_to_be_run_or_read_is_there():
    told = {m for text in TEXTS.values() for m in re.findall(r"python -m (weir(?:\.[a-z_]+)*)", text)}
    told |= {m for name, text in TEXTS.items() if not name.endswith(".py") for m in re.findall(r"\b(weir(?:\.[a-z_]+)+)\b", text) if not re.search(r"\.(py|md|toml|rs|com|xml)$", m)}
    metrics = {m for m in told if m in TEXTS["telemetry/registry.yaml"]}
    missing = []
    for module in sorted(told - metrics):
        parts = module.split(".")
        try:
            there = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            there = False
        if not there:
            parent = importlib.import_module(".".join(parts[:-1])) if importlib.util.find_spec(".".join(parts[:-1])) else None
            there = parent is not None and hasattr(parent, parts[-1])
        if not there:
            missing.append(module)
    assert missing == []


def test_no_hint_points_to_what_the_user_cannot_see_or_type():
    wrong = re.compile(r"see the line above|hint=\"(?:run )?weir[. ]")
    assert [n for n, text in TEXTS.items() if n.startswith("src/") and wrong.search(text)] == []
