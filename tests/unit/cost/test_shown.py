"""The sum of the costs says of how many parts it is and of which day its prices are."""
import pytest

from weir.cost import pricing, shown
from weir.stack import external

SERVICES = [{"name": "kafka", "state": "ready"}, {"name": "api", "state": "failed"}, {"name": "redis", "state": external.ANSWERS}, {"name": "postgres", "state": external.SILENT}]


@pytest.mark.parametrize(("sampled", "services", "told"), [
    (("kafka", "api", "platform"), SERVICES, "all 3 parts"),
    (("kafka",), SERVICES, "1 of 3 parts; no sample in the last 60 s of api, platform"),
    ((), SERVICES, "0 of 3 parts; no sample in the last 60 s of api, kafka, platform"),
    (("kafka", "platform"), None, "2 parts, of how many is unknown")])
def test_the_line_says_of_how_many_parts_the_sum_is_and_names_those_without_a_sample(sampled, services, told):
    assert shown.line(shown.coverage(sampled, services), "2026-11-24", 60) == f"Cost: {told}; list prices, the oldest noted on 2026-11-24"


def test_only_a_sum_that_lacks_parts_carries_their_number():
    assert [shown.coverage(s, SERVICES).short for s in (("kafka",), ("kafka", "api", "platform"))] == ["1 of 3 parts", None]
    assert shown.coverage(("kafka",), None).short is None


def test_the_day_is_the_oldest_of_the_prices_and_unknown_when_they_cannot_be_read(tmp_path):
    text = pricing.PRICES_FILE.read_text()
    (tmp_path / "prices.yaml").write_text(text[::-1].replace("noted_on: 2026-11-24"[::-1], "noted_on: 2025-01-31"[::-1], 1)[::-1])  # the last one
    assert shown.noted_on(tmp_path / "prices.yaml") == "2025-01-31"
    (tmp_path / "broken.yaml").write_text("prices: {")
    assert [shown.noted_on(tmp_path / name) for name in ("broken.yaml", "none.yaml")] == [None, None]
    assert shown.line(shown.coverage(("kafka",), None), None, 60).endswith("; the day of the prices is unknown")
