"""Retention: bounds are refused by name, and every growing table's DDL takes its days from here."""
from dataclasses import fields

import pytest

from weir.contracts import names
from weir.contracts.clickhouse import statements
from weir.contracts.retention import AUDIT_SPARE_DAYS, KAFKA_MAX_DAYS, LOWEST, Retention, bounded, variable
from weir.errors import SettingsError
from weir.ingest import schema
from weir.telemetry import store


def test_the_environment_sets_each_kind_and_says_it_again():
    wanted = Retention(91, 31, 4, 400)
    assert Retention.from_environment(wanted.environment()) == wanted
    assert Retention.from_environment({}) == Retention(30, 30, 3, 730)


@pytest.mark.parametrize("kind", [f.name for f in fields(Retention)])
@pytest.mark.parametrize("days", ["0", "x", "-5", "", "9999", "lowest"])
def test_days_out_of_bounds_are_refused_by_name(kind, days):
    text = str(LOWEST[kind] - 1) if days == "lowest" else days
    with pytest.raises(SettingsError, match=variable(kind)):
        Retention.from_environment({variable(kind): text})


def test_a_quarantine_that_outlasts_the_landing_tables_is_refused():
    """Or a replay that has landed would be looked for where it is no more, and be made twice."""
    with pytest.raises(SettingsError, match="more than the 20 days of landing"):
        Retention.from_environment({variable("landing"): "20"})


def test_a_history_that_landing_outlasts_is_refused():
    with pytest.raises(SettingsError, match="HISTORY_DAYS is 29, less than the 30 days of landing"):
        Retention.from_environment({variable("history"): "29"})


def test_landing_outlasts_whatever_kafka_may_still_hold():
    assert LOWEST["landing"] > KAFKA_MAX_DAYS


@pytest.mark.parametrize("folder", [schema.DDL, store.DDL], ids=["ingest", "telemetry"])
def test_every_table_of_the_ddl_is_bounded_and_no_placeholder_is_left(folder):
    written = [Retention(111, 222, 333).written_into(s) for s in statements(folder)]
    assert [s for s in written if "${" in s] == []
    tables = [s for s in written if "CREATE TABLE" in s and "ops.captured_tables" not in s and "landing.restores" not in s]  # a row a table, replaced; a row a restore and partition
    assert tables
    assert [s.splitlines()[0] for s in tables if bounded(s) is None or bounded(s)[2] not in {f"toIntervalDay({n})" for n in (111, 222, 333, 222 + AUDIT_SPARE_DAYS)}] == []


def test_what_was_done_about_a_quarantined_record_outlasts_it_by_more_than_its_part():
    """Or a record that was replayed would be open again, and could be replayed once more: its row goes with the last of its day's."""
    days = {found[0]: int(found[2].split("(")[1].rstrip(")")) for s in statements(schema.DDL) if (found := bounded(Retention().written_into(s)))}
    assert days[names.QUARANTINE_ACTIONS] >= days[names.QUARANTINE] + 2
