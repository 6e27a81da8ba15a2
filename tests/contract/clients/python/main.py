"""Drives a ClickHouse by clickhouse-connect's asynchronous client; prints one JSON document of what it read."""
import asyncio
import json
import sys

import clickhouse_connect


async def asked(port):
    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=port, autogenerate_session_id=False)
    try:
        found = await asyncio.gather(*(client.query("SELECT {n:UInt64} + 1", parameters={"n": n}) for n in range(40)))
        await client.command("CREATE TABLE d.async (a UInt64) ENGINE = MergeTree ORDER BY a")
        await client.insert("d.async", [[n] for n in range(1000)], column_names=["a"])
        return {"numbers": [f.first_row[0] for f in found], "counted": list((await client.query("SELECT count(), sum(a) FROM d.async")).first_row)}
    finally:
        await client.close()


sys.stdout.write(json.dumps(asyncio.run(asked(int(sys.argv[1])))))
