"""A range of the events' topic decoded again with today's contract, verified, and put in the place of what is live, while live ingest runs.

In: Kafka's records of the range, the tables as they stand. Out: the landing table and the tables behind it with the range's rows as they would land today; `Replayed`. Keep: what
fails or is stopped leaves the live tables serving and nothing beside; a row that lands meanwhile is neither lost nor doubled (docs/decisions/0021).
"""
