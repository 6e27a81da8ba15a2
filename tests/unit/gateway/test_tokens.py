"""Deduplication logs: a token without its part is dropped, and nothing else is."""
import os

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


def test_a_table_that_comes_while_logs_are_looked_for_is_synced_from_then_on(table, tmp_path, monkeypatch):
    logs, looked = tokens.Logs(tmp_path), tokens.folders

    def overtaken(data):
        found = looked(data)
        _log(table, "1\tall_1_1_0\tt1\n")
        (table / "deduplication_logs").rename(other / "deduplication_logs")
        logs.changed()  # another thread's CREATE TABLE
        return found

    other = tmp_path / "store" / "abd" / "abd-uuid"
    other.mkdir(parents=True)
    monkeypatch.setattr(tokens, "folders", overtaken)
    logs.sync(0.0)
    monkeypatch.setattr(tokens, "folders", looked)
    assert logs.sync(0.0) == 1
    monkeypatch.setattr(tokens, "folders", None)
    assert logs.sync(0.0) == 1  # and are not looked for again


def test_a_note_of_what_is_settled_outlives_a_power_cut(table, tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (sync(number), synced.append((os.fstat(number).st_ino, (table / tokens.SETTLED).exists()))))
    _log(table, "1\tall_1_1_0\tt1\n")
    tokens.settle(tokens.folders(tmp_path))
    assert synced == [((table / tokens.SETTLED).stat().st_ino, False), (table.stat().st_ino, True)]


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


def _uncover(table):
    return tokens.uncover(table, tokens.live_of(table / "deduplication_logs"))


def _rows(table, **counts):
    for name, rows in counts.items():
        (table / name).mkdir()
        (table / name / "count.txt").write_text(str(rows))


def test_an_empty_part_that_covers_settled_tokens_goes_and_what_it_covers_before_it(table, tmp_path, monkeypatch):
    _log(table, "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n")
    tokens.settle(tokens.folders(tmp_path))
    _log(table, "1\tall_1_1_0\tt1\n1\tall_2_2_0\tt2\n1\tall_9_9_0\tt9\n")
    _rows(table, all_1_1_0=5, all_1_2_1=10, all_1_3_2=0, all_4_4_0=10, all_9_9_0=1, all_9_10_2=0)  # a REPLACE PARTITION gave the rows all_4_4_0; all_9_9_0 came since and was deleted
    _rows(table, delete_tmp_all_1_1_0=5)
    order, rename = [], type(table).rename
    monkeypatch.setattr(type(table), "rename", lambda path, to: (order.append(path.name), rename(path, to))[1])
    removed = _uncover(table)
    assert [path.name for path in removed] == order
    assert (sorted(order[:2]), order[2:]) == (["all_1_1_0", "all_1_2_1"], ["all_1_3_2"])
    assert sorted(path.name for path in table.glob("*all*")) == ["all_4_4_0", "all_9_10_2", "all_9_9_0"]
    assert tokens.repair(tmp_path) == []
    assert _uncover(table) == []


def test_an_empty_part_of_a_log_that_was_never_settled_is_the_engines_to_remove(table):
    _log(table, "1\tall_1_1_0\tt1\n")
    _rows(table, all_1_1_0=5, all_1_2_1=0)
    assert _uncover(table) == []
