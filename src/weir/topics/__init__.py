"""Topics as they stand, looked at from outside the path: bounds, what a group has committed, committed records of exact ranges.

In: Kafka. Out: offsets and messages. Keep: joins no group, commits nothing; only committed records are seen.
"""
