"""`./weir verify events` on the loaded stack, with real transactions' markers in the topic and after real retention."""
import json

import pytest

pytestmark = pytest.mark.stack


def _verified(running, code):
    done = running.weir("verify", "events", "--json", check=False)
    assert done.returncode == code, (done.stdout[-3000:], done.stderr[-2000:])
    return json.loads(done.stdout)


def test_the_loaded_stack_is_verified_to_the_last_event_also_after_retention_took_some(running):
    found = _verified(running, 0)
    journal = json.loads((running.home / "demo" / "journal.json").read_text())
    assert found["total"]["landed"] >= journal["produced"]
    assert found["total"]["quarantined"] >= journal["bad"]
    assert found["judged"] == found["total"]["landed"] + found["total"]["quarantined"]
    assert {v["verdict"] for v in found["views"]} == {"yes"}
    assert {"landing.quarantine", "landing.ingest_ledger", "staging.int_user_events", "staging.int_item_events"} <= {v["table"] for v in found["views"]}

    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": running.endpoints["kafka_bootstrap"]})
    for future in admin.delete_records([TopicPartition("user-events", 3, 40)]).values():
        future.result(20)
    later = _verified(running, 0)
    assert (later["total"]["expired"], later["partitions"][3]["low"]) == (40, 40)
