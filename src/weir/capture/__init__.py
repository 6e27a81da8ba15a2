"""Capture: a captured table as a whole, from its source to its keyed copy: added, paused, resynced, removed, and watched for changes of its columns.

In: endpoints, the source's catalogues. Out: entries of the register, keyed tables, the connector's list. Keep: a reader sees a copy whole or not at all;
what cannot be verified does not take the place of what stands (docs/decisions/0015).
"""
