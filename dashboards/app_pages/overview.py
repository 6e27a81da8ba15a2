"""One page: is the data correct, how fresh is it, what does it cost, when was recovery proven; then the path, the services, the quarantine, the cost."""

from __future__ import annotations

from datetime import UTC, datetime

import altair as alt
import pandas as pd
import streamlit as st

from weir.cost import shown
from weir.quality import board, event_facts, flow, recovery, terminal
from weir.quality.judge import Verdict
from weir.telemetry import setup

UNKNOWN = "unknown"
FACE = {Verdict.YES: ("Correct", "green", ":material/check_circle:"), Verdict.NO: ("Not correct", "red", ":material/error:"),
        Verdict.UNKNOWN: ("Unknown", "orange", ":material/help:")}
COLOUR = {"ready": "#1a7f4b", "external, answers": "#0f6e84", "external, does not answer": "#c0392b", "starting": "#b7791f", "degraded": "#b7791f",
          "unhealthy": "#c0392b", "failed": "#c0392b"}  # others are grey


def age(ms: float | None) -> str:
    """Return an age for reading."""
    return terminal.age(ms, unknown=UNKNOWN, decimals=0)


def clock(ms: int | None) -> str:
    return UNKNOWN if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S} UTC"


@st.cache_resource
def prices_noted_on() -> str | None:
    """Read once, as the sampler does: a stack that has read new prices has a new page too."""
    return shown.noted_on()


def verdict_row(b: board.Board) -> None:
    word, colour, icon = FACE[b.report.verdict]
    st.markdown(f"### {icon} :{colour}[{word}]")
    ages = [h.age_ms for h in b.report.hops if h.name in {"event landed", "change landed"} and h.age_ms is not None]
    of = shown.coverage([str(c["part"]) for c in b.cost or ()], b.services)
    total = None if b.cost is None else sum(float(c["usd"]) for c in b.cost)
    columns = st.columns(6)
    columns[0].metric("Correct through", clock(b.report.correct_through_ms).removesuffix(" UTC"), border=True, help="UTC. Every record produced up to then is landed once.")
    verified, through = b.pipeline.verified, board.verified_through_ms(b.pipeline.verified)
    past = UNKNOWN if through is None else f"{age(b.report.checked_at_ms - through)} ago"
    columns[1].metric("Verified through", "never" if verified == () else past, border=True,
                      help="Every key compared with PostgreSQL and the online store: ./weir reconcile. The earliest of all tables and views.")
    columns[2].metric("Newest record landed", f"{age(min(ages))} ago" if ages else UNKNOWN, border=True)
    columns[3].metric("API p99", UNKNOWN if b.api_p99_ms is None else f"{b.api_p99_ms:.0f} ms", border=True, help=f"Server spans, {board.P99_MINUTES} min.")
    columns[4].metric("Cost an hour", UNKNOWN if total is None else f"${total:.4f}", None if total is None else of.short, delta_color="off", delta_arrow="off", border=True,
                      help="Measured use at the list prices of cost/prices.yaml.")
    columns[5].metric("Recovery proven", terminal.past(recovery.proven_at_ms(b.pipeline.recovery), b.report.checked_at_ms), border=True,
                      help="The experiment whose last yes is oldest; never, while one has none: ./weir chaos run NAME.")
    st.caption(f"{board.model_line(b.api)} · {board.checked_line(b.report)} · {shown.line(of, prices_noted_on(), board.COST_RECENT_S)}")
    reasons = b.report.reasons
    if reasons:
        with st.expander(f"Why not yes: {len(reasons)} checks", expanded=b.report.verdict is Verdict.NO):
            st.dataframe(pd.DataFrame([r.split(": ", 1) for r in reasons], columns=["check", "reason"]), hide_index=True, height=180)


def path_table(b: board.Board) -> None:
    st.subheader("The path", divider="gray")
    rates = flow.rates(b.before, b.report)
    st.dataframe(
        pd.DataFrame(
            {
                "stage": r.name,
                "services": r.services,
                "writes": r.writes,
                "records/s": UNKNOWN if (rate := rates.get(r.name)) is None else f"{rate:,.0f}",
                "lag": terminal.lag(r.lag, unknown=UNKNOWN),
                "freshness": " · ".join(f"{h.name} {age(h.age_ms)} ago" if h.age_ms is not None else f"{h.name} {UNKNOWN}" for h in r.freshness) or "-",
            }
            for r in board.stage_rows(b.report)
        ),
        hide_index=True,
        column_config={"writes": st.column_config.TextColumn(width="large"), "freshness": st.column_config.TextColumn(width="large")},
    )
    shown = [f"{h.name} {UNKNOWN if h.behind_ms is None else age(h.behind_ms)}" for h in flow.hops(b.report)]
    st.caption(f"behind its input: {' · '.join(shown)}")


def services_table(b: board.Board) -> None:
    st.subheader("Services", divider="gray")
    if not b.services:
        st.info("unknown: no supervisor has written the services' states", icon=":material/help:")
        return
    frame = pd.DataFrame(
        [{"service": s["name"], "state": f"● {s.get('state', UNKNOWN)}", "pid": str(s.get("pid") or "-"), "endpoint": str(s.get("endpoint") or "-")}
         for s in b.services])
    st.dataframe(frame.style.map(lambda v: f"color: {COLOUR.get(v[2:], '#8a979b')}", subset=["state"]), hide_index=True, height=36 * (len(frame) + 1))
    for s in b.services:
        if s.get("why"):
            st.warning(f"{s['name']}: {s['why']}", icon=":material/warning:")



def quarantine_table(b: board.Board) -> None:
    st.subheader("Quarantine", divider="gray")
    found = b.report.quarantine
    if found is None:
        st.info("unknown: ClickHouse could not be asked", icon=":material/help:")
    elif not found:
        st.success("no record is in the quarantine", icon=":material/check:")
    else:
        st.table(pd.DataFrame(found.items(), columns=["reason", "records"]).set_index("reason"))  # a few rows: as text, which a canvas is not
    st.caption("Rows, source against sink")
    st.dataframe(
        pd.DataFrame([{"table": t.table, "source": str(UNKNOWN if t.source_rows is None else t.source_rows),
                       "staging": str(UNKNOWN if t.sink_rows is None else t.sink_rows)} for t in b.report.tables]), hide_index=True)


def events_table(b: board.Board) -> None:
    st.caption(f"Late and repeated events, {event_facts.OVER_H} h")
    found = b.pipeline.events
    if found is not None and found.behind_ms is None:  # nothing of what landed was looked through yet
        found = None
    told = {  # what is not known stays so
        "late by more than 1 h": found and found.late_1h, "late by more than 1 d": found and found.late_1d, "hours restated": found and found.hours_restated,
        "days restated": found and found.days_restated, "repeated ids, same contents": found and found.repeated - found.conflicting,
        "conflicting ids": found and found.conflicting, "counted again by user": found and found.again_by_user, "counted again by item": found and found.again_by_item}
    st.dataframe(pd.DataFrame([(name, UNKNOWN if n is None else f"{n:,}") for name, n in told.items()], columns=["what", "count"]), hide_index=True)
    if found is None:
        return
    if found.hours:
        rows = [(f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H}:00", f"{n:,}") for at, n in found.hours]
        st.dataframe(pd.DataFrame(rows, columns=["restated hour (UTC)", "events"]), hide_index=True)
    sought = UNKNOWN if found.back_to_ms is None else f"{age(b.report.checked_at_ms - found.back_to_ms)} back"
    st.caption(f"looked through to {clock(found.through_ms)}, {age(found.behind_ms)} behind; repeats sought {sought}, among {found.back_rows:,} events")


def capture_table(b: board.Board) -> None:
    st.caption("Change data capture")
    slot, connector, verified = b.pipeline.slot, b.pipeline.connector, b.pipeline.verified
    size = UNKNOWN if slot is None or slot.retained_bytes is None else f"{slot.retained_bytes / 1e6:.1f} MB kept"
    rows = [("connector", UNKNOWN if connector is None else f"{connector.state}, task {connector.task}"),
            ("slot", UNKNOWN if slot is None else f"{slot.wal_status}, {size}")]
    rows += [(v.name, f"{v.outcome}, verified through {v.lsn} at {clock(v.through_ms)}") for v in verified or ()]
    if not verified:
        rows.append(("verified", UNKNOWN if verified is None else "never: ./weir reconcile"))
    st.dataframe(pd.DataFrame(rows, columns=["part", "state"]), hide_index=True)


def recovery_table(b: board.Board) -> None:
    st.caption("Recovery, by experiment")
    now_ms = b.report.checked_at_ms
    st.dataframe(
        pd.DataFrame([{"experiment": p.experiment, "last proven": terminal.past(p.proven_at_ms, now_ms),
                       "newest run": "never" if p.verdict is None else f"{p.verdict}, {terminal.past(p.at_ms, now_ms)}", "reason": p.reason or "-"}
                      for p in b.pipeline.recovery or ()], columns=["experiment", "last proven", "newest run", "reason"]), hide_index=True)


def cost_chart(b: board.Board) -> None:
    st.subheader("Cost by part", divider="gray")
    if b.cost is None:
        st.info("unknown: no sample in the last minute", icon=":material/help:")
        return
    parts = pd.DataFrame(b.cost)
    long = parts.melt("part", ["cpu", "memory", "disk"], "of", "USD an hour")
    chart = alt.Chart(long).mark_bar().encode(
        x=alt.X("USD an hour:Q", axis=alt.Axis(format="$.4f", tickCount=4)), y=alt.Y("part:N", sort="-x", title=None, axis=alt.Axis(labelOverlap=False)),
        color=alt.Color("of:N", title=None, scale=alt.Scale(domain=["cpu", "memory", "disk"], range=["#0f6e84", "#7fb7be", "#d3a550"])),
    )
    st.altair_chart(chart.properties(height=max(120, 26 * len(parts))), width="stretch")


@st.cache_resource(show_spinner="asking every part")
def latest() -> board.Latest:
    """One asker for all open pages."""
    return board.Latest(setup("dashboard"))


@st.fragment(run_every="2s")
def page() -> None:
    b = latest().look()
    verdict_row(b)
    path_table(b)
    left, middle, right = st.columns([4, 3, 5])
    with left:
        services_table(b)
    with middle:
        quarantine_table(b)
        events_table(b)
        capture_table(b)
    with right:
        cost_chart(b)
        recovery_table(b)
    st.caption(f"asked at {clock(b.report.checked_at_ms)}, every two seconds")


st.html("<style>.block-container{padding-top:2.2rem}[data-stale=true]{opacity:1!important}</style>")
st.title("Weir")
page()
