"""Weir: change data capture and materialized views whose correctness, freshness, cost and recovery are always known."""
