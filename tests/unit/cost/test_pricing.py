"""Pricing is linear, sums up, and refuses a price without a source."""
import copy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from weir.cost import pricing, sampler
from weir.cost.pricing import Prices, Usage
from weir.errors import SettingsError

PRICES = Prices(0.02, 0.005, 0.0253, "2026-11-24")


def test_one_core_one_gib_and_one_gb_cost_their_unit_prices():
    cost = pricing.price(Usage("a", 10, 10, 1 << 30, "pss", 730 * 10**9), PRICES)
    assert (cost.cpu, cost.memory, cost.disk) == pytest.approx((0.02, 0.005, 0.0253))


@given(cpu=st.floats(0, 1e4), memory=st.integers(0, 1 << 40), disk=st.integers(0, 1 << 50), seconds=st.floats(0.1, 1e4))
def test_the_whole_is_the_sum_and_twice_the_use_costs_twice(cpu, memory, disk, seconds):
    one = pricing.price(Usage("a", seconds, cpu, memory, "pss", disk), PRICES)
    two = pricing.price(Usage("a", seconds, 2 * cpu, 2 * memory, "pss", 2 * disk), PRICES)
    assert one.total == pytest.approx(one.cpu + one.memory + one.disk)
    assert two.total == pytest.approx(2 * one.total)


def test_the_prices_in_the_repository_are_complete_and_a_price_without_source_is_refused():
    document = yaml.safe_load(pricing.PRICES_FILE.read_text())
    assert pricing.parse(document).cpu_core_hour == pytest.approx(0.0204)
    for key in ("source", "noted_on", "usd"):
        broken = copy.deepcopy(document)
        del broken["prices"]["cpu_core_hour"][key]
        with pytest.raises(SettingsError, match="cpu_core_hour"):
            pricing.parse(broken)


def test_a_process_that_ended_or_restarted_costs_no_negative_seconds():
    before = sampler.Reading(0, {(1, 1.0): 50.0, (2, 1.0): 5.0}, 0, "pss", 0)
    after = sampler.Reading(10, {(2, 1.0): 7.0, (1, 9.0): 1.0}, 0, "pss", 0)
    assert sampler.between("a", before, after).cpu_seconds == pytest.approx(3.0)
