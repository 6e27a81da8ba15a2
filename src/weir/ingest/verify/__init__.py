"""Is every event of the topic once in the landing table, and once in each table behind it: asked of Kafka and ClickHouse as they stand.

In: the topic, the group's commits, the tables. Out: an `Outcome`, by partition and offsets. Keep: nothing is written; every offset below the commit is judged
or counted as unknown; a view is compared with a recompute in this process, not by ClickHouse; memory is bounded by a chunk and a bucket, whatever the topic's length.
"""
