"""Many kills of real processes, under load, on a stack of its own: workers at every named point of their loop and at random, the gateway at random.

In: how many kills, a seed. Out: a record of each kill, and what `verify events` finds afterwards. Keep: a kill counts as hit only when the process died of it; the tables are
judged by the topic and by the producer's own journal; three faults are planted at the end, and each must be told, or the verdict is no.
"""
