// Drives a ClickHouse over HTTP by the official client for Node.js; prints one JSON document of what it read.
import { createClient } from "@clickhouse/client";

const client = createClient({ url: process.argv[2], compression: { request: true, response: true } });
const rows = async (query, more = {}) => (await client.query({ query, format: "JSONEachRow", ...more })).json();

const found = { ping: (await client.ping()).success };
await client.command({ query: "CREATE DATABASE js ENGINE = Atomic" });
await client.command({ query: "CREATE TABLE js.t (id UInt32, text String, list Array(String)) ENGINE = MergeTree ORDER BY id" });
const values = Array.from({ length: 5000 }, (_, id) => ({ id, text: `Zeile ${id} ä`, list: ["a", String(id)] }));
const inserted = await client.insert({ table: "js.t", values, format: "JSONEachRow" });
found.written = inserted.summary?.written_rows;
found.row = (await rows("SELECT * FROM js.t WHERE id = {id: UInt32}", { query_params: { id: 7 } }))[0];
found.sum = (await rows("SELECT toString(sum(id)) AS sum FROM js.t"))[0].sum;
found.whole = (await (await client.query({ query: "SELECT 1 AS a, 'b' AS b", format: "JSON" })).json()).data;

const streamed = await client.query({ query: "SELECT number FROM numbers(300000)", format: "JSONCompactEachRow" });
found.streamed = 0;
for await (const batch of streamed.stream()) for (const row of batch) found.streamed += Number(row.json()[0]);

const session = createClient({ url: process.argv[2], session_id: "js" });
await session.command({ query: "CREATE TEMPORARY TABLE mine (a UInt8)" });
await session.insert({ table: "mine", values: [[1], [2]], format: "JSONCompactEachRow" });
found.temporary = (await (await session.query({ query: "SELECT count() AS n FROM mine", format: "JSONEachRow" })).json())[0].n;
await session.close();

found.id = (await client.query({ query: "SELECT 1", query_id: "js-chose-this" })).query_id;
try {
  await client.query({ query: "SELECT nonsense" });
} catch (error) {
  found.error = { code: error.code, type: error.type };
}
try {
  const broken = await client.query({ query: "SELECT throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_block_size = 65536", format: "JSONEachRow" });
  for await (const batch of broken.stream()) void batch.length;
  found.late = null;
} catch (error) {
  found.late = String(error.message ?? error);
}
await client.close();
console.log(JSON.stringify(found));
