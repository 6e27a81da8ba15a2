"""Fetch the catalogue through its service API and publish it.

In: pages of GET /items. Out: one record an item on topic item-catalogue, keyed by item id. Keep: an invalid entry stops the publication
before anything is sent.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
from confluent_kafka import Producer
from google.protobuf.message import DecodeError

from weir.contracts import names, tls
from weir.contracts.catalogue import ItemCataloguePage
from weir.errors import ContractViolation, Unavailable
from weir.topics.client import client_settings

MAX_ITEMS: Final = 1_000_000


def fault(entry: Any) -> str:
    """Return what is wrong with an entry, or ''. Pure."""
    if entry.item_id <= 0:
        return "item_id is not positive"
    if not entry.title:
        return "title is empty"
    return "" if entry.catalogue_version > 0 else "catalogue_version is missing"


def fetch(client: httpx.Client) -> list[Any]:
    """Return every entry, page by page.

    Raises:
        Unavailable: the catalogue does not answer. ContractViolation: an entry is invalid, or pages do not advance.
    """
    entries: list[Any] = []
    after = 0
    while True:
        try:
            answer = client.get("/items", params={"after": after}).raise_for_status()
            found: Any = ItemCataloguePage.FromString(answer.content)
        except httpx.HTTPError as error:
            raise Unavailable(f"the catalogue does not answer: {error!r}", hint="./weir logs catalogue shows why") from error
        except DecodeError as error:
            raise ContractViolation("the catalogue's answer is not an ItemCataloguePage", hint="see ingest/contracts/item.proto") from error
        entries.extend(found.items)
        wrong = next((f for e in found.items if (f := fault(e))), "")
        if wrong or len(entries) > MAX_ITEMS or 0 < found.next_after <= after:
            raise ContractViolation(f"the catalogue's page after {after} is refused: {wrong or 'it does not end'}", hint="nothing was published")
        if not found.next_after:
            return entries
        after = found.next_after


def publish(catalogue_url: str, bootstrap: str) -> int:
    """Publish the whole catalogue; return the number of items, all acknowledged.

    Raises:
        Unavailable: a service did not answer. ContractViolation: an entry is invalid.
    """
    with httpx.Client(base_url=catalogue_url, timeout=10, verify=tls.context()) as client:
        entries = fetch(client)
    acknowledged: list[object] = []
    producer = Producer({
        **client_settings(bootstrap), "enable.idempotence": True, "acks": "all", "linger.ms": 10, "delivery.timeout.ms": 30_000,
        "queue.buffering.max.messages": MAX_ITEMS, "client.id": "weir-catalogue", "log_level": 0,
    })
    for entry in entries:
        producer.produce(
            names.TOPIC_ITEM_CATALOGUE, entry.SerializeToString(deterministic=True), key=str(entry.item_id),
            on_delivery=lambda error, _message: None if error else acknowledged.append(1),
        )
        producer.poll(0)
    producer.flush(40)
    if len(acknowledged) != len(entries):
        raise Unavailable(f"Kafka acknowledged {len(acknowledged)} of {len(entries)} catalogue items", hint="./weir logs kafka shows why")
    return len(entries)
