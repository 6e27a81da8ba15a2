"""A bulk export is looked at whole before its first row is loaded."""
import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weir.contracts import names
from weir.errors import ContractViolation, Terminal
from weir.ingest import profiles

AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
AT_MS = 1_772_366_400_123
MS = pa.timestamp("ms", "UTC")


@pytest.fixture
def sent(monkeypatch):
    found = []

    class Server:
        def __init__(self, url):
            pass

        def insert(self, table, columns, stream, token, query_id):
            assert table == names.LANDING_PROFILE_EXPORTS
            found.extend(pa.ipc.open_stream(stream).read_all().to_pylist())

        def close(self):
            pass

    monkeypatch.setattr(profiles, "ClickHouse", Server)
    return found


def export(path, **changed):
    columns = {c: pa.array(["x", "y"]) for c in profiles.COLUMNS}
    columns |= {"user_id": pa.array([1, 2]), "age": pa.array([30, 40], pa.int32()), "as_of": pa.array([AT_MS] * 2, MS)} | changed
    pq.write_table(pa.table({k: v for k, v in columns.items() if v is not None}), path)
    return path


@pytest.mark.parametrize("as_of", [
    pa.array([AT_MS] * 2, MS), pa.array([AT, AT], pa.timestamp("us", "UTC")), pa.array([AT, AT], pa.timestamp("ns", "UTC")), pa.array([AT_MS] * 2, pa.int64()),
    pa.array([AT_MS] * 2, pa.timestamp("ms")),
])
def test_an_as_of_time_of_any_unit_gives_a_version_in_ms(sent, tmp_path, as_of):
    assert profiles.load("http://nowhere", export(tmp_path / "a.parquet", as_of=as_of)) == 2
    assert [row["version"] for row in sent] == [AT_MS] * 2


@pytest.mark.parametrize(("changed", "said"), [
    ({"as_of": pa.array([AT_MS * 1000] * 2, pa.int64())}, "as_of is not between 1970 and now"), ({"as_of": pa.array([AT_MS, AT_MS * 1000], pa.int64())}, "as_of is not between"),
    ({"as_of": pa.array([-1, AT_MS], pa.int64())}, "as_of is not between"), ({"as_of": pa.array([0, AT_MS], pa.int64())}, "as_of is not between"),
    ({"as_of": pa.array([AT_MS * 1000] * 2, MS)}, "as_of is not between"), ({"as_of": pa.array([AT_MS, None], MS)}, "as_of is null"), ({"as_of": pa.array(["soon", "late"])}, "cannot be read"),
    ({"user_id": pa.array([1, None])}, "user_id is null"), ({"user_id": pa.array([0, 1])}, "user_id is not above 0"), ({"user_id": pa.array(["1", "2"])}, "user_id is no integer"),
    ({"country": pa.array(["DE", None])}, "country is null"), ({"age": None}, "lacks the columns age"),
])
def test_what_no_export_may_hold_is_refused_in_one_line_and_nothing_is_loaded(sent, tmp_path, changed, said):
    with pytest.raises(ContractViolation, match=said) as refused:
        profiles.load("http://nowhere", export(tmp_path / "a.parquet", **changed))
    assert "\n" not in str(refused.value)
    assert sent == []


def test_a_fault_in_a_later_block_is_found_before_the_first_is_loaded(sent, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "ROWS_A_BLOCK", 1)
    with pytest.raises(ContractViolation, match="rows 2 to 2: user_id is null"):
        profiles.load("http://nowhere", export(tmp_path / "a.parquet", user_id=pa.array([1, None])))
    assert sent == []


def test_what_is_no_parquet_file_or_no_file_is_refused(sent, tmp_path):
    (tmp_path / "a.parquet").write_text("user_id,age\n1,2\n")
    (tmp_path / "empty.parquet").write_text("")
    for name in ("a.parquet", "empty.parquet"):
        with pytest.raises(ContractViolation, match="is no Parquet file"):
            profiles.load("http://nowhere", tmp_path / name)
    for path in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(Terminal, match="cannot be read"):
            profiles.load("http://nowhere", path)


def test_a_file_that_is_broken_inside_is_refused(sent, tmp_path):
    path = export(tmp_path / "a.parquet")
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(ContractViolation, match="cannot be read past row 0"):
        profiles.load("http://nowhere", path)
