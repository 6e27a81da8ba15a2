-- Views of the landing tables: bad rows into the quarantine, and the ledger, one row per batch and Kafka partition.
CREATE MATERIALIZED VIEW IF NOT EXISTS landing.quarantine_from_user_events TO landing.quarantine AS
SELECT topic, partition, offset, batch, produced_at, reject_reason, raw, traceparent
FROM landing.user_events
WHERE reject_reason != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS landing.ledger_from_user_events TO landing.ingest_ledger AS
SELECT topic, partition, batch, min(offset) AS first_offset, max(offset) AS last_offset, count() AS rows,
       countIf(reject_reason != '') AS rejected, max(produced_at) AS max_produced_at
FROM landing.user_events
GROUP BY topic, partition, batch;

CREATE MATERIALIZED VIEW IF NOT EXISTS landing.quarantine_from_cdc_changes TO landing.quarantine AS
SELECT topic, partition, offset, batch, produced_at, reject_reason, raw, traceparent
FROM landing.cdc_changes
WHERE reject_reason != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS landing.ledger_from_cdc_changes TO landing.ingest_ledger AS
SELECT topic, partition, batch, min(offset) AS first_offset, max(offset) AS last_offset, count() AS rows,
       countIf(reject_reason != '') AS rejected, max(produced_at) AS max_produced_at
FROM landing.cdc_changes
GROUP BY topic, partition, batch;

CREATE MATERIALIZED VIEW IF NOT EXISTS landing.quarantine_from_catalogue_items TO landing.quarantine AS
SELECT topic, partition, offset, batch, produced_at, reject_reason, raw, traceparent
FROM landing.catalogue_items
WHERE reject_reason != '';

CREATE MATERIALIZED VIEW IF NOT EXISTS landing.ledger_from_catalogue_items TO landing.ingest_ledger AS
SELECT topic, partition, batch, min(offset) AS first_offset, max(offset) AS last_offset, count() AS rows,
       countIf(reject_reason != '') AS rejected, max(produced_at) AS max_produced_at
FROM landing.catalogue_items
GROUP BY topic, partition, batch;
