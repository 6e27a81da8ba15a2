"""What is left of an exchange, and a table's name in a query: pure."""
from dataclasses import replace

import pytest

from weir.contracts import names
from weir.transform import proof, shadow
from weir.transform.shadow import Keyed

LIVE = Keyed("m", "ReplacingMergeTree", "a", "", "", "caught up", "1", {"a": "Int64"}, {"m_cdc": "old", "m_bulk": "old"})
BESIDE = replace(LIVE, name="shadow__m", comment=shadow.VERIFIED, feeds={"shadow__m_cdc": "new"})
GONE = replace(LIVE, name="shadow__m", feeds={"shadow__m_cdc": "new"})


def test_an_exchange_takes_the_old_views_away_first_and_makes_the_new_one_when_the_new_table_has_the_name():
    assert shadow.remaining("m", {"m": LIVE, "shadow__m": BESIDE}) == [
        "DROP TABLE staging.m_cdc", "DROP TABLE staging.m_bulk", "EXCHANGE TABLES staging.m AND staging.shadow__m",
        "CREATE MATERIALIZED VIEW staging.m_cdc TO staging.m AS new", "DROP TABLE staging.shadow__m_cdc",
    ]


@pytest.mark.parametrize(("live", "beside", "left"), [
    ({"m_bulk": "old"}, BESIDE, 4),  # one of the old views is gone
    ({}, BESIDE, 3),
    ({}, GONE, 2),  # exchanged
    ({"m_cdc": "new"}, GONE, 1),
    ({"m_cdc": "new"}, replace(GONE, feeds={}), 0),
    ({"m_cdc": "new"}, None, 0),
])
def test_of_an_exchange_that_was_killed_the_rest_is_left(live, beside, left):
    exchanged = beside is not BESIDE
    tables = {"m": replace(LIVE, feeds=live, comment=shadow.VERIFIED if exchanged else LIVE.comment), **({"shadow__m": beside} if beside else {})}
    found = shadow.remaining("m", tables)
    assert len(found) == left
    assert any(s.startswith("EXCHANGE") for s in found) is not exchanged
    assert shadow.verified(tables) == ("m",)


@pytest.mark.parametrize(("sql", "named"), [
    ("SELECT a FROM staging.m FINAL", True), ("SELECT a FROM `staging`.`m`", True), ("SELECT a FROM staging.`m` AS x", True), ("SELECT a FROM (SELECT b FROM staging.m)", True),
    ("SELECT a FROM staging.m_more", False), ("SELECT a FROM staging.m2", False), ("SELECT a FROM other_staging.m", False), ("SELECT staging.mm FROM x", False), ("SELECT a FROM m", False),
])
def test_a_table_is_found_in_a_query_by_its_whole_name(sql, named):
    assert shadow.names_table(sql, "staging.m") is named
    assert shadow.names_table(shadow.instead(sql, "staging.m", "staging.shadow__m"), "staging.shadow__m") is named


@pytest.mark.parametrize("rows", [0, 1, proof.SLICE_ROWS, proof.SLICE_ROWS + 1, 7 * proof.SLICE_ROWS])
def test_slices_take_each_hash_once(rows):
    bounds = [tuple(int(b) for b in s.removeprefix("k BETWEEN ").split(" AND ")) for s in proof.slices(rows)]
    assert (bounds[0][0], bounds[-1][1]) == (0, 2**64 - 1)
    assert [a + 1 for _, a in bounds[:-1]] == [b for b, _ in bounds[1:]]
    assert len(bounds) == max(1, -(-rows // proof.SLICE_ROWS))


def test_the_macro_that_names_what_is_beside_says_the_same_prefix():
    from weir.transform.build import ROOT

    assert f'"{names.SHADOW_PREFIX}" ~ own' in (ROOT / "dbt" / "macros" / "generate_alias_name.sql").read_text()
