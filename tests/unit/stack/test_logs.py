"""`./weir logs NAME --lines N` shows N lines when N were written, wherever they are."""
import pytest

from weir.stack import logs, services


@pytest.fixture
def log(tmp_path):
    path = services.log_path(tmp_path, "kafka")
    path.parent.mkdir()
    return path


def _lines(numbers):
    return [f"line {n} {'x' * 90}" for n in numbers]


def test_more_lines_than_one_block_holds_are_all_shown(tmp_path, log):
    written = _lines(range(5000))
    log.write_text("\n".join(written) + "\n")
    assert log.stat().st_size > 5 * logs.BLOCK_BYTES
    assert logs.tail(tmp_path, "kafka", 4000).splitlines() == written[-4000:]
    assert logs.tail(tmp_path, "kafka", 9999).splitlines() == written


def test_the_lines_go_on_into_the_rotated_files_newest_first_and_a_line_cut_by_the_rotation_is_whole(tmp_path, log):
    for name, text in {"kafka.log.2": "a\nb\n", "kafka.log.1": "c\nd\ne be", "kafka.log": "gun\nf\n\n", "kafka.log.old": "z\n"}.items():
        log.with_name(name).write_text(text)
    assert logs.tail(tmp_path, "kafka", 3).splitlines() == ["d", "e begun", "f"]
    assert logs.tail(tmp_path, "kafka", 50).splitlines() == ["a", "b", "c", "d", "e begun", "f"]


def test_no_more_is_read_than_the_lines_take(tmp_path, log, monkeypatch):
    log.write_text("\n".join(_lines(range(5000))))
    spans, real = [], logs._end
    monkeypatch.setattr(logs, "_end", lambda files, span: spans.append(span) or real(files, span))
    assert logs.tail(tmp_path, "kafka", 2).count("\n") == 1
    assert spans == [logs.BLOCK_BYTES]


def test_a_service_that_wrote_nothing_has_no_last_line(tmp_path):
    assert logs.tail(tmp_path, "kafka", 5) == ""
