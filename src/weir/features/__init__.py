"""Marts into the online store, in Feast's own format, as soon as their inputs change.

In: landing tables' newest rows (whose keys changed), marts. Out: Redis hashes that Feast reads. Keep: docs/decisions/0005: an older value never
overwrites a newer one, and the watermark moves after the write.
"""
