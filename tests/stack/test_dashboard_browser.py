"""The dashboard in a real browser: with no part of the stack running it says unknown; with a loaded stack, what is measured."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from weir.cli import browser
from weir.contracts import cdc
from weir.contracts.endpoints import Endpoints
from weir.contracts.model import POPULARITY, read_pointer
from weir.contracts.path import PATH
from weir.quality import board, pipeline
from weir.stack import services

pytestmark = [pytest.mark.stack, pytest.mark.browser]
ROOT = Path(__file__).resolve().parents[2]


def _chromium():
    return browser.ensure(Path(os.environ.get("WEIR_HOME") or ROOT / ".weir"))  # a browser that cannot be had fails the test: a skipped one proves nothing


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def dashboard(tmp_path):
    given = os.environ.get("WEIR_TEST_DASHBOARD_URL")
    if given:
        yield given
        return
    port = _free_port()
    env = os.environ | Endpoints.local(port_base=1).environment() | {"WEIR_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "dashboards/home.py", "--server.port", str(port), "--server.address", "127.0.0.1",
             "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"],
            cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/_stcore/health").is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _tables(page):
    """Return the rows of each table on the page, by its first heading. It is drawn on a canvas, which holds what it shows as a table for screen readers too."""
    tables = {}
    for grid in page.locator("[data-testid=stDataFrame] [role=grid]").all():
        heads = [h.strip() for h in grid.locator("[role=columnheader]").all_text_contents()]
        rows = [[c.strip() for c in row.locator("[role=gridcell]").all_text_contents()] for row in grid.locator("[role=row]").all()]
        tables[heads[0]] = [dict(zip(heads, row, strict=True)) for row in rows if row]
    return tables


def _seen(url, until, screenshot, program=None, settled=lambda _tables: True):
    """Open the page, wait for a text and until its tables are `settled`, half a minute at most; return (its text, its metrics by label, its tables by their first heading, tracebacks, addresses outside this machine)."""
    from playwright.sync_api import sync_playwright

    foreign = []
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=program or _chromium(), args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1440, "height": 1250})
        page.on("request", lambda r: foreign.append(r.url) if "127.0.0.1" not in r.url and r.url.startswith("http") else None)
        page.goto(url)
        page.get_by_text("Cost by part").wait_for(timeout=60_000)
        page.get_by_text(until).first.wait_for(timeout=60_000)
        time.sleep(3)
        deadline = time.monotonic() + 30
        while not settled(_tables(page)) and time.monotonic() < deadline:
            time.sleep(1)
        page.screenshot(path=os.environ.get("WEIR_TEST_SCREENSHOT", str(screenshot)), full_page=True)
        metrics = {}
        for metric in page.locator("[data-testid=stMetric]").all():
            label = metric.locator("[data-testid=stMetricLabel]").inner_text().strip()
            metrics[label] = metric.locator("[data-testid=stMetricValue]").inner_text().strip()
        found = page.inner_text("body"), metrics, _tables(page), page.locator("[data-testid=stException]").count(), foreign
        opened.close()
    return found


def test_the_page_gives_a_verdict_and_no_traceback(dashboard, tmp_path):
    text, metrics, tables, tracebacks, foreign = _seen(dashboard, "asked at", tmp_path / "dashboard.png")
    for word in ("Correct through", "Newest record landed", "API p99", "Cost an hour", "Recovery proven"):
        assert word in metrics
    for word in ("Recovery, by experiment", "Recommendations:", "The path", "Services", "Quarantine"):
        assert word in text
    assert tracebacks == 0
    assert foreign == []
    if "WEIR_TEST_DASHBOARD_URL" not in os.environ:
        assert "Unknown" in text
        assert [row["stage"] for row in tables["stage"]] == [s.name for s in PATH]
        assert {row["records/s"] for row in tables["stage"]} == {"unknown"}
        assert re.search(r"Cost: 0 parts, of how many is unknown; list prices, the oldest noted on \d{4}-\d\d-\d\d", text)


@pytest.mark.parametrize("machine", ["with-its-npm", pytest.param("without-node", marks=pytest.mark.long)])
def test_the_locked_browser_draws_the_page_where_the_machine_has_none(dashboard, tmp_path, monkeypatch, machine):
    home = Path(os.environ.get("WEIR_HOME") or ROOT / ".weir")
    if machine == "without-node":
        home = tmp_path  # fetched anew, npm too
        (tmp_path / "bin").mkdir()
        for name in ("sh", "dirname", "readlink"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    text, metrics, _, tracebacks, foreign = _seen(dashboard, "asked at", tmp_path / "dashboard.png", browser.locked(home))
    assert ("Recovery proven" in metrics, "Recovery, by experiment" in text, tracebacks, foreign) == (True, True, 0, [])


def _all_known(tables):
    return not [cell for row in tables.get("stage", [{"": "unknown"}]) for cell in row.values() if "unknown" in cell]


def test_where_popularity_serves_the_page_says_so_and_why(running, tmp_path):
    api_url = running.endpoints["api_url"]
    before = pipeline.ask_api(api_url)
    assert before.model_version != POPULARITY, "the demo's model beat popularity"

    def training(*arguments):
        running.weir("run", "python", "-m", "weir.training", *arguments)

    def served(by):
        deadline = time.monotonic() + 30
        while not by(found := pipeline.ask_api(api_url)):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)

    try:
        while read_pointer(running.home).version:
            training("rollback")
        served(lambda api: api.model_version == POPULARITY)
        text = _seen(running.endpoints["dashboard_url"], re.compile("by popularity"), tmp_path / "popularity.png")[0]
        assert f"Recommendations: by popularity, since the champion was rolled back by hand, over {before.items:,} items" in text
    finally:
        training("promote", before.model_version)
        served(lambda api: api.model_version == before.model_version)


def test_a_loaded_stacks_page_shows_what_is_measured_and_its_looks_are_traced(running, tmp_path):
    endpoints, spans, deadline = running.endpoints, 0, time.monotonic() + 30
    assert httpx.get(f"{endpoints['api_url']}/recommendations/1", timeout=30).is_success  # the p99 is of the last minutes' requests
    while not spans and time.monotonic() < deadline:
        spans = running.clickhouse("SELECT count() FROM otel.otel_traces WHERE ServiceName = 'api' AND SpanKind = 'Server' AND Timestamp > now64(9) - INTERVAL 5 MINUTE")[0][0]
    url = endpoints["dashboard_url"]
    text, metrics, tables, tracebacks, foreign = _seen(url, re.compile("^Correct$"), tmp_path / "loaded.png", settled=_all_known)
    known = ("Correct through", "Newest record landed", "API p99", "Cost an hour")
    assert {k: metrics[k] for k in known if metrics[k] == "unknown"} == {}
    assert float(metrics["Cost an hour"].removeprefix("$")) > 0
    assert re.search(r"Cost: (all \d+ parts|\d+ of \d+ parts; no sample in the last 60 s of [a-z, ]+); list prices, the oldest noted on \d{4}-\d\d-\d\d", text)
    assert [row["stage"] for row in tables["stage"]] == [s.name for s in PATH]
    stages = {row["stage"]: row for row in tables["stage"]}
    assert [cell for row in stages.values() for cell in (row["records/s"], row["lag"], row["freshness"]) if "unknown" in cell or not cell] == []
    assert all(row["records/s"].replace(",", "").isdigit() and re.search(r"\d+ \w+ ago", row["freshness"]) for row in stages.values()), stages
    times = r"\d+(\.\d)? (ms|s|min|h|d)"
    shapes = dict.fromkeys(stages, times) | {"source": "-", "connect": r"[\d,.]+ kB of WAL", "ingest": r"[\d,]+ records"}
    assert {name: row["lag"] for name, row in stages.items() if not re.fullmatch(shapes[name], row["lag"])} == {}
    behind = re.search(r"behind its input: (.*)", text).group(1)
    assert (behind.count(" · "), "unknown" in behind) == (5, False), behind
    assert {row["service"]: row["state"] for row in tables["service"]} == dict.fromkeys(services.ORDER, "● ready")
    with psycopg.connect(endpoints["postgres_dsn"]) as connection:
        there = {t: str(connection.execute(f"SELECT count(*) FROM public.{t}").fetchone()[0]) for t in cdc.CDC_TABLES}
    assert {row["table"]: (row["source"], row["staging"]) for row in tables["table"]} == {t: (n, n) for t, n in there.items()}
    assert {row["part"]: row["state"] for row in tables["part"]}["connector"] == "RUNNING, task RUNNING"
    refused = dict(running.clickhouse("SELECT reject_reason, count() FROM landing.quarantine GROUP BY reject_reason"))
    assert sum(refused.values()) >= 7, "the demo's input has seven bad records"
    told = text.split("Quarantine", 1)[1].split("Rows, source against sink")[0]
    assert {reason: int(n.replace(",", "")) for reason, n in re.findall(r"^(\w+)\s+([\d,]+)$", told, re.MULTILINE)} == refused, told
    assert board.model_line(pipeline.ask_api(endpoints["api_url"])) in text
    assert (tracebacks, foreign) == (0, [])
    looks, deadline = 0, time.monotonic() + 30
    while not looks and time.monotonic() < deadline:
        looks = running.clickhouse("SELECT count() FROM otel.otel_traces WHERE ServiceName = 'dashboard' AND SpanName = 'weir.dashboard.look'")[0][0]
    assert looks
