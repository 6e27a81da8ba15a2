import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from weir.catalogue import app, entries, publication
from weir.contracts.catalogue import ENTRY_FIELDS, ItemCatalogueEntry
from weir.errors import ContractViolation, SettingsError
from weir.telemetry import setup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def served(tmp_path):
    lines = "".join(f"{i}\tTitle {i}\t{1990 + i % 9}\tDrama Children's\n" for i in range(1, 1202))
    (tmp_path / entries.FILE).write_text(f"head\n{lines}1202\t\tV\t\n")
    return entries.read(entries.path({"WEIR_DATASET_DIR": str(tmp_path)}))


def test_the_descriptor_says_what_the_proto_file_says():
    text = (ROOT / "ingest/contracts/item.proto").read_text().split("message ItemCataloguePage")[0]
    stated = {name: int(number) for name, number in re.findall(r"(\w+) = (\d+);", text)}
    assert stated == {name: number for name, number, _, _ in ENTRY_FIELDS}


def test_pages_hold_every_item_once_and_in_order(served):
    with TestClient(app.build(served)) as client:
        found = publication.fetch(client)
    assert [e.item_id for e in found] == list(range(1, 1203))
    assert list(found[0].genres) == ["Drama", "Children's"]
    assert (found[-1].title, found[-1].release_year) == ("item 1202", 0)


def test_one_item_is_protobuf_and_a_missing_one_is_404(served):
    with TestClient(app.build(served)) as client:
        assert ItemCatalogueEntry.FromString(client.get("/items/7").content) == served[6]
        assert client.get("/items/9999").status_code == 404
        assert client.get("/items?limit=x").status_code == 400
        assert client.get("/health").json() == {"ready": True, "items": 1202}


def test_each_answer_of_entries_is_measured_and_a_look_at_the_health_is_not(served):
    telemetry, told = setup("test", otlp_url=""), []
    telemetry.record = lambda name, value, labels: told.append((name, value > 0, labels["route"]))
    with TestClient(app.build(served, telemetry)) as client:
        for path in ("items", "items/7", "items/9999", "health"):
            client.get(f"/{path}")
    assert told == [("weir.catalogue.request_ms", True, route) for route in ("items", "item", "item")]


def test_an_invalid_entry_stops_the_publication(served):
    served[3].title = ""
    with TestClient(app.build(served)) as client, pytest.raises(ContractViolation, match="title is empty"):
        publication.fetch(client)


def test_a_missing_file_is_named():
    with pytest.raises(SettingsError, match=r"ml-100k\.item"):
        entries.path({})
