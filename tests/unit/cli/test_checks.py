"""What `./weir test` says of itself at the end."""
from weir.cli import checks


def test_the_suite_says_how_long_it_took_and_when_that_was_too_long():
    assert checks.told_time(1799.6, whole=True) == "checks and tests: 1800 s"
    assert "1801 s, more than the 1800 s" in checks.told_time(1801, whole=True)
    assert checks.told_time(4000, whole=False) == "checks and tests: 4000 s"


def test_what_is_skipped_is_told_with_its_reason(tmp_path, capfd):
    folder = tmp_path / "tests" / "unit"
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text("import pytest\n\ndef test_a():\n    pytest.skip('strace is not installed')\n")
    assert checks.run(tmp_path, tmp_path, long=False, only="unit") == 0
    said = capfd.readouterr().out
    assert "strace is not installed" in said
    assert "checks and tests: " in said
