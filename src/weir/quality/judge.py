"""From what was counted to a verdict. Pure.

In: counts, offsets and times, each possibly None (could not be asked). Out: a `Report`. Keep: unknown never passes, and a difference that
records still on their way explain is not a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from weir.contracts import names

# Written in Kafka transactions, whose markers take an offset each: the end is one past the last record's next. In every topic a gap is such a
# marker (a replay from the quarantine writes in a transaction too), an aborted record or a loss, so each is looked at in Kafka.
TRANSACTIONAL = (names.TOPIC_CDC_USERS, names.TOPIC_CDC_ITEMS)


class Verdict(StrEnum):
    """Answer of a check."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TableCount:
    """Rows of a table at the source and of its keyed copy; None: could not be asked."""

    table: str
    source_rows: int | None
    sink_rows: int | None


@dataclass(frozen=True, slots=True)
class PartitionCount:
    """One topic partition. Offsets are next offsets (end); `landed_*` are of rows in the landing table, `ledger_*` of the ledger.

    `committed` is None when the group has committed nothing yet.
    """

    topic: str
    partition: int
    begin: int | None
    end: int | None
    committed: int | None
    ledger_rows: int | None
    landed_rows: int | None
    landed_distinct: int | None
    landed_owed: int | None = None
    landed_max: int | None = None
    lost: int | None = None  # records that Kafka holds in the gaps; None: not looked at
    mark: int = 0  # offsets below were checked before: their rows are in the counts as they were then (docs/decisions/0017-marks.md)
    faults: tuple[str, ...] = ()  # what those checks found wrong
    waiting: int | None = None  # offsets above the mark, where they are too many for one look
    whole: bool = True  # no check below the mark is missing
    trailing: bool = False  # what lies past the commit is markers alone

    @property
    def lag(self) -> int | None:
        """Records not yet committed; None when the end is unknown. A CDC topic's trailing transaction marker is no record."""
        if self.end is None:
            return None
        lag = max(0, self.end - ((self.begin or 0) if self.committed is None else self.committed))
        marker = lag == 1 and self.topic in TRANSACTIONAL and self.committed is not None
        return 0 if marker or self.trailing else lag


@dataclass(frozen=True, slots=True)
class Hop:
    """How fresh one hop is: the newest record's time (ms since the epoch), and its age at the time of asking."""

    name: str
    newest_at_ms: int | None
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class Capture:
    """How far capture is behind the source: WAL that Debezium has not confirmed (None: not known), and whether it reads at all."""

    behind_bytes: int | None = None
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer and, unless yes, the reason."""

    name: str
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict over all checks. `correct_through_ms`: every record produced up to then is in its landing table once; None: not known."""

    verdict: Verdict
    correct_through_ms: int | None
    checked_at_ms: int
    checks: tuple[Check, ...]
    tables: tuple[TableCount, ...]
    partitions: tuple[PartitionCount, ...]
    hops: tuple[Hop, ...]
    quarantine: Mapping[str, int] | None
    counters: Mapping[str, int | None] = field(default_factory=dict)  # records that passed each stage of the path up to now; None: could not be asked
    capture: Capture = field(default_factory=Capture)
    checked_since_ms: int | None = None  # every row below the marks was checked at least once since then; None: nothing is below one

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not yes."""
        return tuple(f"{c.name}: {c.reason}" for c in self.checks if c.verdict is not Verdict.YES)


def judge_table(count: TableCount, *, cdc_lag: int | None) -> Check:
    """Compare a table's rows. A difference while changes are under way (`cdc_lag` > 0 or not known) is unknown, not a loss."""
    name = f"rows of {count.table}"
    if count.source_rows is None:
        return Check(name, Verdict.UNKNOWN, "PostgreSQL could not be asked")
    if count.sink_rows is None:
        return Check(name, Verdict.UNKNOWN, "the staging table could not be asked")
    if count.source_rows == count.sink_rows:
        return Check(name, Verdict.YES)
    difference = f"{count.source_rows} at the source, {count.sink_rows} in staging"
    if cdc_lag is None or cdc_lag > 0:
        return Check(name, Verdict.UNKNOWN, f"{difference}, changes are under way")
    return Check(name, Verdict.NO, difference)


def _untold(p: PartitionCount, name: str) -> Check | None:
    """Return what is known of a partition before its counts are compared: wrong already, or not to be told."""
    if p.begin is None or p.end is None:
        return Check(name, Verdict.UNKNOWN, "Kafka could not be asked")
    if p.faults:
        return Check(name, Verdict.NO, f"{p.faults[0]}{f' (and {len(p.faults) - 1} more)' if p.faults[1:] else ''}")
    if p.waiting is not None:
        return Check(name, Verdict.UNKNOWN, f"{p.waiting} offsets from {p.mark} on wait for their check: ./weir logs quality shows how it goes")
    if p.landed_rows is None or p.landed_distinct is None or p.ledger_rows is None:
        return Check(name, Verdict.UNKNOWN, "ClickHouse could not be asked")
    if not p.whole:
        return Check(name, Verdict.UNKNOWN, f"a check below offset {p.mark} is gone: TRUNCATE TABLE {names.CHECKED_WINDOWS} has all made anew")
    return None


def judge_partition(p: PartitionCount) -> Check:
    """Check that every offset below the committed one is landed once, and that the ledger says the same."""
    name = f"{p.topic}/{p.partition}"
    untold = _untold(p, name)
    if untold is not None or p.begin is None or p.end is None or p.landed_rows is None or p.landed_distinct is None or p.ledger_rows is None:
        return untold or Check(name, Verdict.UNKNOWN, "it could not be asked")
    if p.landed_rows != p.landed_distinct:
        return Check(name, Verdict.NO, f"{p.landed_rows - p.landed_distinct} rows are doubled")
    if p.ledger_rows != p.landed_rows:
        return Check(name, Verdict.NO, f"the ledger says {p.ledger_rows} rows, the landing table holds {p.landed_rows}")
    if p.landed_max is not None and p.landed_max >= p.end:
        return Check(name, Verdict.NO, f"offset {p.landed_max} is landed, but the topic ends at {p.end}: it was created anew")
    missing = _missing(p, p.begin, p.landed_rows)
    return Check(name, Verdict.YES) if missing is None else Check(name, *missing)


def _missing(p: PartitionCount, begin: int, landed_rows: int) -> tuple[Verdict, str] | None:
    if p.committed is None or p.committed <= begin:
        return None
    owed = p.committed - begin
    if (p.landed_owed or 0) < owed and p.lost != 0:
        missing = f"{owed - (p.landed_owed or 0)} of {owed} offsets below the committed one are not landed"
        if p.lost is None:
            return Verdict.UNKNOWN, f"{missing}, and Kafka could not tell which of them are records"
        return Verdict.NO, f"{p.lost} records are lost: {missing}"
    if not landed_rows and owed > 1 and not p.mark:
        return Verdict.NO, f"offsets up to {p.committed} are committed and nothing is landed"
    return None


def judge(
    tables: Sequence[TableCount],
    partitions: Sequence[PartitionCount],
    hops: Sequence[Hop],
    quarantine: Mapping[str, int] | None,
    *,
    cdc_topics: Mapping[str, str],
    now_ms: int,
    first_unlanded_ms: int | None = None,
    more: Sequence[Check] = (),
) -> Report:
    """Return the report: no when anything is wrong, else unknown when anything could not be asked, else yes.

    Args:
        tables: counts of source and sink.
        partitions: all topic partitions of the path; none at all is unknown.
        hops: freshness per hop.
        quarantine: rows by reason; None: could not be asked.
        cdc_topics: table name to its topic, to know whether changes are under way.
        now_ms: the clock.
        first_unlanded_ms: when lag exists, the newest record's time that is landed on every lagging partition.
        more: checks made elsewhere (`weir.quality.pipeline`).
    """
    lags: dict[str, int | None] = {}
    for p in partitions:
        before = lags.get(p.topic, 0)
        lags[p.topic] = None if before is None or p.lag is None else before + p.lag
    checks = [judge_table(t, cdc_lag=lags.get(cdc_topics.get(t.table, ""))) for t in tables]
    checks += [judge_partition(p) for p in partitions]
    if not partitions:
        checks.append(Check("topics", Verdict.UNKNOWN, "no topic could be asked"))
    if quarantine is None:
        checks.append(Check("quarantine", Verdict.UNKNOWN, "ClickHouse could not be asked"))
    checks += more
    answers = {c.verdict for c in checks}
    verdict = Verdict.NO if Verdict.NO in answers else Verdict.UNKNOWN if Verdict.UNKNOWN in answers else Verdict.YES
    through = None
    if verdict is Verdict.YES:
        behind = any(p.lag for p in partitions)
        through = first_unlanded_ms if behind else now_ms
    return Report(verdict, through, now_ms, tuple(checks), tuple(tables), tuple(partitions), tuple(hops), quarantine)
