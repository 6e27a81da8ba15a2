"""`./weir --help` on a fresh machine tells the commands and fetches nothing."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from weir.cli import outline
from weir.cli.app import app

ROOT = Path(__file__).resolve().parents[3]


def test_the_outline_says_what_the_commands_say_of_themselves():
    told = typer.main.get_command(app)
    assert told.help == outline.SUMMARY
    assert {name: command.get_short_help_str(1000) for name, command in told.commands.items()} == outline.COMMANDS


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2)])
def test_without_an_environment_help_answers_and_makes_none(tmp_path, words, code):
    env = {"PATH": os.environ["PATH"], "WEIR_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PYTHONPYCACHEPREFIX": str(tmp_path / "pycache")}
    done = subprocess.run([sys.executable, str(ROOT / "weir"), *words], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert all(f"  {name} " in done.stdout for name in outline.COMMANDS)
    assert "./weir doctor" in done.stdout
    assert not (tmp_path / "home").exists()
