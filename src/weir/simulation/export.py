"""User profiles as a Parquet file, as a nightly export of the shop would be.

In: the data set, the export's as-of time. Out: one Parquet file. Keep: columns as landing.user_profile_exports has them, but for
`export_id` and `version`, which the loader gives.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from weir.simulation import dataset, derive
from weir.simulation.source import USER_COLUMNS


def write_parquet(path: Path, as_of: datetime, folder: Path | None = None, seed: int = derive.DEFAULT_SEED) -> int:
    """Write the profiles as they were at `as_of` (with a time zone); return the rows. A missing preferred genre is ''."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(derive.users(dataset.read(folder or dataset.directory()), seed))
    types = {"user_id": pa.int64(), "age": pa.int32()}
    columns = {c: pa.array([getattr(u, c) if getattr(u, c) is not None else "" for u in rows], types.get(c, pa.string())) for c in USER_COLUMNS}
    columns["as_of"] = pa.array([as_of] * len(rows), pa.timestamp("ms", tz="UTC"))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    pq.write_table(pa.table(columns), new)
    new.replace(path)
    return len(rows)
