"""The embedded ClickHouse: the real engine (chdb) behind ClickHouse's own HTTP interface.

In: HTTP as in ClickHouse's documentation (interfaces/http). Out: what a server answers. Keep: an insert is acknowledged only when the engine
said that it is a part; one process owns a data folder; nothing of Weir is imported, so the room could be lifted out.
"""
