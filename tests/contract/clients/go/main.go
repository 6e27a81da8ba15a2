// Drives a ClickHouse over HTTP by clickhouse-go; prints one JSON document of what it read.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(addr string, method clickhouse.CompressionMethod, name string) map[string]any {
	ctx := context.Background()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Protocol: clickhouse.HTTP, Addr: []string{addr}, Auth: clickhouse.Auth{Database: "default"},
		Compression: &clickhouse.Compression{Method: method},
	})
	must(err)
	defer conn.Close()
	must(conn.Ping(ctx))
	version, err := conn.ServerVersion()
	must(err)
	must(conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS go ENGINE = Atomic"))
	table := "go.t_" + name
	must(conn.Exec(ctx, "CREATE TABLE "+table+" (id UInt64, at DateTime64(3, 'UTC'), zoned DateTime('Europe/Paris'), low LowCardinality(String), list Array(String), pairs Map(String, UInt64), perhaps Nullable(Int32)) ENGINE = MergeTree ORDER BY id"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
	must(err)
	for n := uint64(0); n < 1000; n++ {
		perhaps := new(int32)
		*perhaps = int32(n)
		if n%2 == 0 {
			perhaps = nil
		}
		must(batch.Append(n, time.UnixMilli(int64(n)), time.Unix(3600, 0), fmt.Sprint(n%3), []string{"a", fmt.Sprint(n)}, map[string]uint64{"k": n}, perhaps))
	}
	must(batch.Send())
	var count, sum uint64
	must(conn.QueryRow(ctx, "SELECT count(), sum(id) FROM "+table).Scan(&count, &sum))
	var zoned time.Time
	var list []string
	var pairs map[string]uint64
	var perhaps *int32
	must(conn.QueryRow(ctx, "SELECT zoned, list, pairs, perhaps FROM "+table+" WHERE id = 7").Scan(&zoned, &list, &pairs, &perhaps))
	rows, err := conn.Query(ctx, "SELECT number, toString(number) FROM numbers(300000)")
	must(err)
	read := uint64(0)
	for rows.Next() {
		var number uint64
		var text string
		must(rows.Scan(&number, &text))
		read += number
	}
	must(rows.Err())
	_, failed := conn.Query(ctx, "SELECT nonsense") // by lz4 and zstd the answer is in the native framing, an error too
	return map[string]any{"version": version.Version.String(), "count": count, "sum": sum, "zoned": zoned.Format(time.RFC3339), "list": list, "pairs": pairs,
		"perhaps": perhaps, "read": read, "failed": fmt.Sprint(failed)}
}

func main() {
	addr := os.Args[1]
	found := map[string]any{}
	for name, method := range map[string]clickhouse.CompressionMethod{"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD, "gzip": clickhouse.CompressionGZIP} {
		found[name] = run(addr, method, name)
	}
	must(json.NewEncoder(os.Stdout).Encode(found))
}
