"""Room `simulation`: MovieLens 100k as the shop's users and items, and as a stream of events in sessions.

In: WEIR_DATASET_DIR. Out: rows in PostgreSQL, a Parquet export, records on topic user-events. Keep: the same seed and `now` make the same
bytes; identifiers do not depend on `now`, so a repeat is recognized.
"""
