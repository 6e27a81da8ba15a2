"""`./weir backup` and `./weir restore` on the loaded stack: what came after the backup is read again, and everything is there once, by the topic and PostgreSQL themselves."""
import json
import shutil

import pytest

from weir.demo import follow

pytestmark = [pytest.mark.stack, pytest.mark.long]  # two starts; tests/contract/test_backup.py holds each part of it
EVENTS = 4000
LIMIT_S = 90
USERS = 20


@pytest.fixture
def topic(endpoints):
    """What Kafka holds since the test began, by (partition, offset): event ids."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": endpoints.kafka_bootstrap, "group.id": "test-backup", "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True})
    partitions = sorted(consumer.list_topics("user-events", timeout=20).topics["user-events"].partitions)
    begins = {p: consumer.get_watermark_offsets(TopicPartition("user-events", p), timeout=20)[1] for p in partitions}

    def read():
        consumer.assign([TopicPartition("user-events", p, begins[p]) for p in partitions])
        found, ended = {}, set()
        while len(ended) < len(partitions):
            message = consumer.poll(20)
            assert message is not None, "Kafka does not answer"
            if message.error():
                ended.add(message.partition())
            else:
                found[message.partition(), message.offset()] = json.loads(message.value())["event_id"]
        return found

    yield read
    consumer.close()


@pytest.fixture
def shop(endpoints):
    """The source; the users that the test changes are as they were after it."""
    import psycopg

    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:
        rows = connection.execute("SELECT zip_code, user_id FROM users ORDER BY user_id LIMIT %s", [USERS]).fetchall()
    changed = [user for _, user in rows]

    def execute(zip_code):
        with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection:  # anew: the stack is down in between
            connection.execute("UPDATE users SET zip_code = %s WHERE user_id = ANY(%s)", [zip_code, changed])
            return dict(connection.execute("SELECT user_id, zip_code FROM users").fetchall())

    yield execute
    with psycopg.connect(endpoints.postgres_dsn, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany("UPDATE users SET zip_code = %s WHERE user_id = %s", rows)


def _load(running, seed):
    """Produce events, one in twenty of them twice, none of them bad."""
    running.weir("load", "--events", str(EVENTS), "--seed", str(seed), "--bad", "0", "--dup", "0.05", "--late", "0", "--users", "2000", "--items", "1000", "--json")


def _landed(running, wanted):
    """Whether each record that Kafka holds is in the landing table once, under its own id, and each id once in the keyed copy."""
    low = {p: min(o for q, o in wanted if q == p) for p, _ in wanted}
    since = " OR ".join(f"(partition = {p} AND offset >= {o})" for p, o in low.items())
    rows = running.clickhouse(f"SELECT partition, offset, any(event_id), count() FROM landing.user_events WHERE {since} GROUP BY partition, offset")
    found = {(p, o): (event_id, n) for p, o, event_id, n in rows}
    ids = set(wanted.values())
    keyed = dict(running.clickhouse(f"SELECT event_id, count() FROM staging.int_user_events FINAL WHERE event_id IN (SELECT event_id FROM landing.user_events WHERE {since}) GROUP BY event_id"))
    return found == {at: (event_id, 1) for at, event_id in wanted.items()} and all(keyed.get(i) == 1 for i in ids)


def _zip_codes(running):
    return dict(running.clickhouse("SELECT user_id, zip_code FROM staging.int_users"))


def test_what_came_after_a_backup_is_there_once_after_the_restore(running, topic, shop):
    _load(running, 7101)
    first = topic()
    follow.until(lambda: _landed(running, first), "the first load", LIMIT_S)
    shop("11111")
    backup = json.loads(running.weir("backup", "--json").stdout)
    assert (backup["cut"], backup["damaged"]) == ("hot", False)

    _load(running, 7102)
    source = shop("22222")
    every = topic()
    assert len(set(every.values())) == 2 * EVENTS < len(every)
    follow.until(lambda: _landed(running, every), "the second load", LIMIT_S)
    follow.until(lambda: _zip_codes(running) == source, "the changed users", LIMIT_S)

    refused = running.weir("restore", backup["path"], check=False)
    assert refused.returncode != 0
    assert "./weir down first" in refused.stderr
    running.weir("down")
    restored = json.loads(running.weir("restore", backup["path"], "--replace", "--json").stdout)
    assert restored["set_aside"]
    running.weir("up")
    follow.until(lambda: _landed(running, every), "every event once", LIMIT_S)
    follow.until(lambda: _zip_codes(running) == source, "every user as PostgreSQL has it", LIMIT_S)
    assert running.clickhouse("SELECT count() FROM landing.restores")[0][0] >= 1
    verified = running.weir("verify", "events", "--json", check=False)
    assert verified.returncode == 0, verified.stdout[-3000:]
    for left in (running.home / restored["set_aside"][0], backup["path"]):
        shutil.rmtree(left)
