"""A cut of a data folder whose parts go while it is made."""
import shutil
from pathlib import Path

from weir.gateway import snapshot


def test_a_part_that_goes_between_its_name_and_the_look_at_it_is_left_out(tmp_path, monkeypatch):
    data = tmp_path / "data"
    table = data / "data" / "landing" / "events"
    for part in ("20261130_1_16_3", "20261130_1_17_4"):
        (table / part).mkdir(parents=True)
        (table / part / "data.bin").write_text(part)
    (table / "format_version.txt").write_text("1")
    listed = Path.iterdir

    def merged(folder):
        entries = list(listed(folder))
        if folder == table:
            shutil.rmtree(table / "20261130_1_16_3", ignore_errors=True)
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", merged)
    made = snapshot.cut(data, tmp_path / "cut")
    monkeypatch.undo()
    assert sorted(f.name for f in (tmp_path / "cut" / "data" / "landing" / "events").iterdir()) == ["20261130_1_17_4", "format_version.txt"]
    assert made.files == 2
