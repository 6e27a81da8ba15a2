"""Reconciliation: are the source, its keyed copy and the online store the same, key by key, and up to which LSN was that verified.

In: endpoints. Out: an outcome per table and feature view, findings kept in ClickHouse, and, when asked to, repairs through the real path.
Keep: a check that could not run says unknown; nothing is repaired behind the path's back: what repairs a row comes through Kafka.
"""
