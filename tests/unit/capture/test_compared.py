"""What no comparison covers is told before the first row, by the very forms that comparisons use."""
import pytest

from weir.capture.compared import notes
from weir.contracts import source_types
from weir.contracts.cdc import CdcTable
from weir.contracts.schema import SourceColumn
from weir.reconcile import plan

KINDS = [*source_types.LANDINGS, *(f"{k}[]" for k in sorted(source_types.ARRAYS)), "numeric(12,2)", "timestamp(3) without time zone"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_is_told_of_just_when_a_comparison_leaves_it_out(kind):
    columns = [SourceColumn("id", "bigint", nullable=False), SourceColumn("x", kind)]
    sink = {c.name: source_types.sink_type(c.type, nullable=c.nullable) for c in columns}
    compared = plan.make(CdcTable("t", "public.t", "shop.public.t", "captured.t__1", "captured.t"), [(c.name, c.type, c.nullable) for c in columns], ["id"], sink)
    assert bool(notes("public.t", columns)) is bool(compared.unchecked)


def test_a_note_is_mild_and_names_the_column_its_type_and_what_would_have_it_compared():
    kinds = ["time with time zone", "tstzrange", "json[]", "xml"]
    (zoned, span, *lists) = notes("public.t", [SourceColumn(f"c{n}", k) for n, k in enumerate(kinds)])
    assert zoned.mild
    assert str(zoned).startswith("public.t.c0 of type time with time zone is not compared with the source: ALTER TABLE public.t ALTER COLUMN c0 TYPE text USING c0::text;")
    assert "tstzrange" in span.what
    assert all("text[]" in f.sql for f in lists)
    (virtual,) = notes("public.t", [SourceColumn("total", "bigint", generated="v")])
    assert "lands nowhere" in virtual.what
