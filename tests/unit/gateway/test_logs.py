"""The engine's logs over a restart: which parts come back."""
from weir.gateway import logs


def _parts(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)


def test_parts_that_were_merged_or_mutated_into_another_do_not_come_back_beside_it(tmp_path):
    system = tmp_path / "data" / "data" / "system" / "part_log"
    _parts(system, "202611_1_1_0", "202611_2_2_0", "202611_1_2_1", "202611_3_3_0", "202611_3_3_0_4", "202612_1_1_0", "tmp_insert_202611_9_9_0", "detached")
    logs.put_aside(tmp_path)
    _parts(system, "202611_1_1_0")  # of a start that was killed before it attached them
    logs.put_aside(tmp_path)
    assert sorted(p.name for p in system.iterdir()) == ["detached", "tmp_insert_202611_9_9_0"]
    asked = []
    assert logs.attach(tmp_path, asked.append) == 4
    names = [sql.rpartition(" ")[2] for sql in asked]
    assert (sorted(names[:3]), names[3:]) == (["'202611_1_2_1'", "'202611_3_3_0_4'", "'202612_1_1_0'"], ["'202611_1_1_0'"])
    assert not (tmp_path / "logs").exists()


def test_what_cannot_be_attached_is_left_out_with_a_warning_and_the_others_come(tmp_path, caplog):
    system = tmp_path / "data" / "data" / "system" / "query_views_log"
    _parts(system, "202611_1_1_0", "202611_2_2_0", "detached")

    def ask(sql):
        if "_1_1_0" in sql:
            raise RuntimeError("Code: 226. No columns.txt\nstack")

    logs.put_aside(tmp_path)
    assert logs.attach(tmp_path, ask) == 1
    assert caplog.messages == ["a part of system.query_views_log from before this start is left out: Code: 226. No columns.txt"]
    assert [p.name for p in (system / "detached").iterdir()] == ["202611_2_2_0"]
