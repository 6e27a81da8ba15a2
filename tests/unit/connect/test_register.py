"""Which topics' partitions are held to the contract, against a made-up broker."""
from types import SimpleNamespace

import pytest

from weir.connect.register import ensure_topics
from weir.contracts import cdc, names
from weir.contracts.endpoints import Endpoints
from weir.errors import ContractViolation


class Told:
    """A future that was kept."""

    def __init__(self, value=None):
        self.result = lambda: value


def broker(partitions, sizes):
    """A broker with these topics; `sizes`: what each takes, changed in place."""
    def alter(resources, **_):
        for r in resources:
            sizes[r.name] = int(r.incremental_configs[0].value)
        return {r: Told() for r in resources}

    return SimpleNamespace(
        create_topics=lambda *_a, **_k: {}, list_topics=lambda **_: SimpleNamespace(topics={t: SimpleNamespace(partitions=dict.fromkeys(range(n))) for t, n in partitions.items()}),
        describe_configs=lambda resources, **_: {r: Told({"max.message.bytes": SimpleNamespace(value=str(sizes[r.name]))}) for r in resources}, incremental_alter_configs=alter)


@pytest.fixture
def partitions(monkeypatch):
    found = dict(names.PARTITIONS)
    monkeypatch.setattr("confluent_kafka.admin.AdminClient", lambda _: broker(found, dict.fromkeys(found, cdc.RECORD_BYTES)))
    return found


def test_a_cdc_topic_with_other_partitions_is_refused(partitions):
    partitions[names.TOPIC_CDC_ITEMS] = 4
    with pytest.raises(ContractViolation, match=r"shop\.public\.items has 4 partitions"):
        ensure_topics(Endpoints.local())


@pytest.mark.parametrize("topic", [names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE])
def test_a_topic_whose_versions_do_not_rest_on_partitions_may_have_others(partitions, topic):
    partitions[topic] = 100
    assert ensure_topics(Endpoints.local()) is None


def test_a_topic_of_changes_that_was_made_with_less_room_is_given_more_and_one_of_events_is_let_be(partitions, monkeypatch):
    sizes = {names.TOPIC_CDC_USERS: 1 << 20, names.TOPIC_CDC_ITEMS: cdc.RECORD_BYTES}
    monkeypatch.setattr("confluent_kafka.admin.AdminClient", lambda _: broker(partitions, sizes))
    ensure_topics(Endpoints.local())
    assert sizes == dict.fromkeys((names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS), cdc.RECORD_BYTES)
