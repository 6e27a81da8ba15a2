import pytest

from weir.errors import ContractViolation, DiskFull, Terminal, Transient
from weir.ingest.clickhouse import INSERT_SETTINGS, refusal
from weir.ingest.guard import View, behind, check, window

FULL = "MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 8192"

# As a stack's own ClickHouse has them; a server of somebody's has both syncs off by default.
DEFAULTS = ("non_replicated_deduplication_window\t0\nreplicated_deduplication_window\t10000\nreplicated_deduplication_window_seconds\t3600\n"
            "fsync_after_insert\t1\nfsync_part_directory\t1\n")
REPLICATED = "ReplicatedMergeTree('/clickhouse/tables/{shard}/t', '{replica}') ORDER BY a"


class Server:
    def __init__(self, settings=None, views="", tables=f"l.t\tMergeTree\t{FULL}\n", defaults=DEFAULTS):
        self.settings, self.views, self.tables, self.defaults = {**INSERT_SETTINGS, **(settings or {})}, views, tables, defaults

    def settings_in_force(self):
        return self.settings

    def execute(self, sql, **_):
        return self.defaults if "merge_tree_settings" in sql else self.views if "MaterializedView" in sql else self.tables


def test_a_server_that_holds_all_of_it_is_accepted():
    assert check(Server(), ["l.t"]) is None


@pytest.mark.parametrize("name", sorted(INSERT_SETTINGS))
def test_a_setting_that_is_off_is_named(name):
    with pytest.raises(ContractViolation, match=name):
        check(Server({name: "7"}), ["l.t"])


def test_deduplication_turned_off_by_its_newer_name_is_named():
    with pytest.raises(ContractViolation, match="deduplicate_insert"):
        check(Server({"deduplicate_insert": "disable"}), ["l.t"])


@pytest.mark.parametrize("full", ["MergeTree ORDER BY a", FULL.replace("10000", "0"), FULL.replace("10000", "10"), FULL.replace("non_replicated", "replicated")])
def test_a_table_with_no_window_or_a_small_one_is_named(full):
    with pytest.raises(ContractViolation, match=r"l\.t has a deduplication window"):
        check(Server(tables=f"l.t\tMergeTree\t{full}\n"), ["l.t"])


@pytest.mark.parametrize("name", ["fsync_after_insert", "fsync_part_directory"])
@pytest.mark.parametrize(("engine", "full"), [("MergeTree", FULL), ("ReplicatedMergeTree", f"{REPLICATED} SETTINGS index_granularity = 8192")])
def test_a_table_that_is_not_synced_before_an_insert_is_acknowledged_is_named(name, engine, full):
    off = DEFAULTS.replace(f"{name}\t1", f"{name}\t0")
    with pytest.raises(ContractViolation, match=rf"l\.t has {name} = 0.*ALTER TABLE l\.t MODIFY SETTING {name} = 1"):
        check(Server(tables=f"l.t\t{engine}\t{full}\n", defaults=off), ["l.t"])
    for own, taken in (("1", True), ("true", True), ("0", False), ("false", False)):
        server = Server(tables=f"l.t\t{engine}\t{full}, {name} = {own}\n", defaults=off if taken else DEFAULTS)
        if taken:
            assert check(server, ["l.t"]) is None
        else:
            with pytest.raises(ContractViolation, match=name):
                check(server, ["l.t"])


@pytest.mark.parametrize(("own", "named"), [
    ("", ""), ("replicated_deduplication_window = 3000, replicated_deduplication_window_seconds = 300", ""),
    ("replicated_deduplication_window = 100", r"100 \(replicated_deduplication_window\).*MODIFY SETTING replicated_deduplication_window = 10000"),
    ("replicated_deduplication_window_seconds = 60", r"60 s \(replicated_deduplication_window_seconds\).*MODIFY SETTING replicated_deduplication_window_seconds = 3600"),
    ("non_replicated_deduplication_window = 0", ""),
])
def test_a_replicated_table_has_both_of_its_own_windows(own, named):
    server = Server(tables=f"l.t\tReplicatedMergeTree\t{REPLICATED} SETTINGS {own or 'index_granularity = 8192'}\n")
    if not named:
        assert check(server, ["l.t"]) is None
        return
    with pytest.raises(ContractViolation, match=named):
        check(server, ["l.t"])


@pytest.mark.parametrize("engine", ["Distributed", "Buffer", "Null", "Memory"])
def test_a_table_that_keeps_no_tokens_is_refused_by_its_engine_and_not_told_to_set_a_window(engine):
    with pytest.raises(ContractViolation, match=rf"l\.t is of engine {engine}, which keeps no token") as found:
        check(Server(tables=f"l.t\t{engine}\t{engine}(c, l, t, partition)\n"), ["l.t"])
    assert "MODIFY SETTING" not in str(found.value)


def test_a_view_behind_a_view_is_looked_at():
    views = "m.v\tm.a\tSELECT x FROM l.t\tCREATE MATERIALIZED VIEW m.v TO m.a AS\nm.w\tm.b\tSELECT x FROM m.a\tCREATE MATERIALIZED VIEW m.w TO m.b AS\n"
    tables = f"l.t\tMergeTree\t{FULL}\nm.a\tMergeTree\t{FULL}\nm.b\tMergeTree\tMergeTree ORDER BY a\n"
    with pytest.raises(ContractViolation, match=r"m\.b, which m\.w fills,"):
        check(Server(views=views, tables=tables), ["l.t"])


def test_a_view_that_is_computed_anew_is_not_fed_by_inserts():
    views = "m.v\tm.a\tSELECT x FROM l.t\tCREATE MATERIALIZED VIEW m.v REFRESH EVERY 1 HOUR TO m.a AS\n"
    assert check(Server(views=views), ["l.t"]) is None


def test_a_target_that_keeps_no_window_at_all_is_named():
    views = "m.v\tm.a\tSELECT x FROM l.t\tCREATE MATERIALIZED VIEW m.v TO m.a AS\n"
    with pytest.raises(ContractViolation, match=r"m\.a"):
        check(Server(views=views, tables=f"l.t\tMergeTree\t{FULL}\nm.a\tMemory\tMemory\n"), ["l.t"])


def test_a_table_is_not_taken_for_one_whose_name_it_begins():
    assert behind(["l.t"], [View("v", "m.a", "SELECT 1 FROM l.t2"), View("w", "m.b", "SELECT 1 FROM xl.t"), View("x", "m.c", "SELECT 1 FROM `l`.`t` AS q")]) == {"l.t": "", "m.c": "x"}


def test_a_replicated_table_has_the_servers_default():
    assert window("ReplicatedMergeTree", "ReplicatedMergeTree('/x', 'r') ORDER BY a", {"replicated_deduplication_window": "10000"}) == 10_000


@pytest.mark.parametrize(("code", "status", "text", "kind"), [
    ("252", 500, "Code: 252. DB::Exception: Too many parts (3001 with average size of 1.00 KiB) in table. Merges are processing slower", Transient),
    ("252", 500, "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100).", Terminal),
    ("243", 500, "Code: 243. DB::Exception: Cannot reserve 1.08 MiB, not enough space. (NOT_ENOUGH_SPACE)", DiskFull),
    ("243", 507, "Code: 243. DB::Exception: There is no room on the disk for the request. (NOT_ENOUGH_SPACE)", DiskFull),
    ("75", 500, "Code: 75. DB::ErrnoException: Cannot write to file: /d/t/tmp_insert/a.bin: , errno: 28, strerror: No space left on device", DiskFull),
    ("1001", 500, "Code: 1001. DB::Exception: std::filesystem_error: in create_directory: Disk quota exceeded (STD_EXCEPTION)", DiskFull),
    ("75", 500, "Code: 75. DB::ErrnoException: Cannot write to file, errno: 5, strerror: Input/output error", Terminal),
    ("159", 408, "Timeout exceeded: elapsed 240 s, maximum: 240 s. (TIMEOUT_EXCEEDED)", Transient),
    ("241", 500, "Memory limit exceeded", Transient), ("", 503, "busy", Transient), ("60", 404, "no such table", Terminal), ("469", 500, "constraint", Terminal),
])
def test_a_refusal_is_repeated_only_when_the_same_bytes_may_pass(code, status, text, kind):
    assert type(refusal(code, status, text)) is kind


def test_a_full_disk_says_so_and_what_to_do_and_too_many_parts_say_so():
    assert str(refusal("243", 500, "")).startswith("ClickHouse refused with code 243 (HTTP 500): ClickHouse's disk is full. make room there")
    assert "too many parts" in str(refusal("252", 500, "Too many parts (3001)"))


def test_a_window_is_read_quoted_as_dbt_writes_it_or_bare():
    for value in ("10000", "'10000'"):
        assert window("ReplacingMergeTree", f"ReplacingMergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = {value}, index_granularity = 8192", {}) == 10_000


@pytest.mark.parametrize(("text", "named"), [
    ("Code: 469. DB::Exception: Constraint `c` for table t is violated at row 1. Expression: (a > 5). Column values: a = 'NAME (SECRET)'. (VIOLATED_CONSTRAINT) (version 25.8.1.1 (official build))\n",
     "code 469 VIOLATED_CONSTRAINT"),
    ("Code: 469. DB::Exception: Column values: a = 'NAME (SECRET)'. (VIOLATED_CONSTRAINT)", "code 469 VIOLATED_CONSTRAINT"), ("Column values: a = 'NAME (SECRET)'.", "code 469 "),
])
def test_a_refusal_names_code_and_kind_and_quotes_no_value(text, named):
    found = str(refusal("469", 500, text))
    assert named in found
    assert "SECRET" not in found
    assert "NAME " not in found.replace("VIOLATED", "")
