"""Deduplication logs: a token without its part is dropped, and nothing else is."""
import pytest

from weir.gateway import tokens


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "store" / "abc" / "abc-uuid"
    (folder / "deduplication_logs").mkdir(parents=True)
    return folder


def _log(table, text, number=1):
    (table / "deduplication_logs" / f"deduplication_log_{number}.txt").write_text(text)


def _read(table, number=1):
    return (table / "deduplication_logs" / f"deduplication_log_{number}.txt").read_text()


def _parts(table, *names):
    for name in names:
        (table / name).mkdir()


def test_a_token_whose_part_never_came_is_dropped_and_the_others_stay(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n")
    _parts(table, "all_1_1_0", "tmp_insert_all_2_2_0")
    assert [o.block for o in tokens.repair(tmp_path)] == ["t2"]
    assert _read(table) == "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n2\tall_2_2_0\tt2\n"
    assert tokens.repair(tmp_path) == []


def test_a_merged_or_mutated_part_covers_what_it_was_made_of(table, tmp_path):
    _log(table, "1\t20260101_1_1_0\tt1\n1\t20260101_2_2_0\tt2\n1\t20260102_3_3_0\tt3\n")
    _parts(table, "20260101_1_2_1", "20260102_3_3_0_4")
    assert tokens.repair(tmp_path) == []


def test_another_partitions_part_covers_nothing(table, tmp_path):
    _log(table, "1\t20260101_2_2_0\tt2\n")
    _parts(table, "20260102_1_3_1")
    assert [o.block for o in tokens.repair(tmp_path)] == ["t2"]


def test_a_line_that_the_crash_cut_short_is_removed(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n1\tall_3")
    _parts(table, "all_1_1_0")
    tokens.repair(tmp_path)
    assert _read(table) == "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n2\tall_2_2_0\tt2\n"


def test_files_are_read_in_the_order_of_their_numbers(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n", 9)
    _log(table, "2\tall_1_1_0\tt1\n", 10)
    assert tokens.repair(tmp_path) == []


def test_what_was_dropped_long_ago_keeps_its_token(table, tmp_path):
    newer = tokens.RECENT + 5
    _log(table, "1\told_1_1_0\told\n" + "".join(f"1\tall_{i}_{i}_0\tt{i}\n" for i in range(newer)))
    _parts(table, *(f"all_{i}_{i}_0" for i in range(newer)))
    assert tokens.repair(tmp_path) == []


def test_a_folder_that_is_not_there_yet_needs_no_repair(tmp_path):
    assert tokens.repair(tmp_path / "none") == []


def test_only_logs_that_were_written_since_are_synced(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n")
    assert tokens.sync(tokens.folders(tmp_path), 0.0) == 1
    assert tokens.sync(tokens.folders(tmp_path), 9e12) == 0


def test_what_stood_in_the_log_while_nothing_was_in_flight_keeps_its_token_when_its_part_is_replaced(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n", 1)
    _log(table, "1\tall_2_2_0\tt2\n", 2)
    _parts(table, "all_3_3_0")  # a REPLACE PARTITION has put their rows there
    assert tokens.settle(tokens.folders(tmp_path)) == 1
    _log(table, "1\tall_2_2_0\tt2\n1\tall_4_4_0\tt4\n", 2)
    _log(table, "1\tall_5_5_0\tt5\n", 3)
    assert [o.block for o in tokens.repair(tmp_path)] == ["t4", "t5"]
    assert tokens.repair(tmp_path) == []


def test_a_note_that_cannot_be_read_settles_nothing(table, tmp_path):
    _log(table, "1\tall_1_1_0\tt1\n")
    (table / tokens.SETTLED).write_text("half")
    assert [o.block for o in tokens.repair(tmp_path)] == ["t1"]
