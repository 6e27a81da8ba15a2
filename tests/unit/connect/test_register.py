"""Which topics' partitions are held to the contract, against a made-up broker."""
from types import SimpleNamespace

import pytest

from weir.connect.register import ensure_topics
from weir.contracts import names
from weir.contracts.endpoints import Endpoints
from weir.errors import ContractViolation


@pytest.fixture
def partitions(monkeypatch):
    found = dict(names.PARTITIONS)

    def topics():
        return {topic: SimpleNamespace(partitions=dict.fromkeys(range(count))) for topic, count in found.items()}

    broker = SimpleNamespace(create_topics=lambda *_a, **_k: {}, list_topics=lambda **_: SimpleNamespace(topics=topics()))
    monkeypatch.setattr("confluent_kafka.admin.AdminClient", lambda _settings: broker)
    return found


def test_a_cdc_topic_with_other_partitions_is_refused(partitions):
    partitions[names.TOPIC_CDC_ITEMS] = 4
    with pytest.raises(ContractViolation, match=r"shop\.public\.items has 4 partitions"):
        ensure_topics(Endpoints.local())


@pytest.mark.parametrize("topic", [names.TOPIC_USER_EVENTS, names.TOPIC_ITEM_CATALOGUE])
def test_a_topic_whose_versions_do_not_rest_on_partitions_may_have_others(partitions, topic):
    partitions[topic] = 100
    assert ensure_topics(Endpoints.local()) is None
