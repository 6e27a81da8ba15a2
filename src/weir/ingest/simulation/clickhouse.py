"""A ClickHouse with a landing table and three tables behind views, each with its deduplication window.

Keep, as ClickHouse does (`tests/contract/test_ingest_fakes.py` holds both to it): a token counts once in each table while it stands in that table's
window; a view is fed also when the landing table dropped the block, and judges by its own window; a view that throws leaves what came before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from weir.errors import Terminal, Transient, Unavailable
from weir.ingest.pressure import Parts
from weir.ingest.simulation.world import Process, World

TIMEOUT_S: Final = 30.0
REPLY_S: Final = (0.005, 0.5)
Row = tuple[int, int, str]  # partition, offset, reject reason
FAULTS: Final = ("refused", "answer lost", "late", "repeated", "view throws", "view refuses", "slow", "outage")
OUTAGE_S: Final = (2.0, 60.0)


@dataclass
class Target:
    """One table: how often each row is in it, and the tokens that it remembers (oldest first)."""

    name: str
    window: int
    takes: Callable[[Row], bool]
    rows: Counter[tuple[int, int]] = field(default_factory=Counter)
    tokens: dict[str, None] = field(default_factory=dict)

    def apply(self, token: str, rows: list[Row]) -> None:
        """Add the rows unless the token is remembered. An empty block leaves no token, as in ClickHouse."""
        mine = [(p, o) for p, o, reason in rows if self.takes((p, o, reason))]
        if not mine or token in self.tokens:
            return
        self.rows.update(mine)
        if self.window and token:
            self.tokens[token] = None
            while len(self.tokens) > self.window:
                del self.tokens[next(iter(self.tokens))]


@dataclass
class Engine:
    """The server. The flags are the settings that the claim rests on, so that a mutant can turn one off."""

    world: World
    window: int = 1000
    view_window: int = 1000
    acknowledges_first: bool = False  # async_insert without waiting
    targets: list[Target] = field(default_factory=list)
    batches: Counter[str] = field(default_factory=Counter)
    down_until_s: float = 0.0
    crowded_s: tuple[float, float] = (0.0, 0.0)  # from when to when its merges do not keep up

    def __post_init__(self) -> None:
        """Make the tables: landing first, then in the order in which the views run."""
        self.targets = [
            Target("landing", self.window, lambda _row: True),
            Target("ledger", self.window, lambda _row: True),
            Target("quarantine", self.window, lambda row: row[2] != ""),
            Target("view", self.view_window, lambda row: row[2] == ""),
        ]

    def parts(self) -> tuple[Parts, ...]:
        """Return what it says of its parts."""
        begins, ends = self.crowded_s
        return (Parts("view", 900 if begins <= self.world.now_s < ends else 10, 1000),)

    def apply(self, token: str, batch: str, rows: list[Row], only: int = 99) -> None:
        """Apply one block to the first `only` tables."""
        landing = self.targets[0]
        before = landing.rows.total()
        for target in self.targets[:only]:
            target.apply(token, rows)
        self.batches[batch] += landing.rows.total() - before


def rows_of(arrow_stream: bytes) -> tuple[str, list[Row]]:
    """Return the batch and the rows of an insert's bytes."""
    table = pa.ipc.open_stream(arrow_stream).read_all()
    columns = [table.column(name).to_pylist() for name in ("partition", "offset", "reject_reason")]
    return table.column("batch")[0].as_py(), list(zip(*columns, strict=True))


class Store:
    """What a worker sees as its `ClickHouse`."""

    def __init__(self, engine: Engine, process: Process, token_of: Callable[[str, str], str] = lambda token, _query_id: token) -> None:
        self._engine, self._process, self._world, self._token_of = engine, process, engine.world, token_of

    def insert(self, table: str, columns: list[str], arrow_stream: bytes, token: str, query_id: str) -> None:
        """Insert; the request may arrive late or twice, its answer may not, and a view may throw."""
        del table, columns
        self._process.step("insert")
        engine, world, sent = self._engine, self._world, self._token_of(token, query_id)
        batch, rows = rows_of(arrow_stream)
        fault = world.draw("insert answer", FAULTS)
        if fault == "outage":
            engine.down_until_s = world.now_s + world.rng.uniform(*OUTAGE_S)
        if world.now_s < engine.down_until_s:
            self._process.sleep(world.rng.uniform(*REPLY_S))
            raise Unavailable("ClickHouse does not answer")
        if fault == "refused":
            raise Transient("ClickHouse refused with code 252 TOO_MANY_PARTS (HTTP 500)")
        if fault == "late":
            world.later(world.rng.uniform(1, 90), lambda: engine.apply(sent, batch, rows))
        elif fault in {"view throws", "view refuses"}:
            engine.apply(sent, batch, rows, only=world.rng.randint(1, 3))
            kind = Transient if fault == "view throws" else Terminal
            raise kind("ClickHouse refused: while pushing to view")
        elif engine.acknowledges_first and world.draw("buffer", ("dropped",)):
            return
        else:
            self._process.sleep(TIMEOUT_S - 1 if fault == "slow" else 0.0)
            engine.apply(sent, batch, rows)
            if fault == "repeated":
                world.later(world.rng.uniform(0, 60), lambda: engine.apply(sent, batch, rows))
        self._process.step("inserted")
        self._process.sleep(TIMEOUT_S if fault in {"late", "answer lost"} else world.rng.uniform(*REPLY_S))
        if fault in {"late", "answer lost"}:
            raise Unavailable("ClickHouse does not answer")

    def execute(self, sql: str, **parameters: str | int) -> str:
        """Answer the one question that a lane asks: how many rows of a batch the landing table holds."""
        if "count()" not in sql:
            raise NotImplementedError(sql)
        self._process.step("count")
        self._process.sleep(self._world.rng.uniform(*REPLY_S))
        if self._world.draw("count answer", ("lost",)):
            raise Unavailable("ClickHouse does not answer")
        return str(self._engine.batches[str(parameters["batch"])])

    def close(self) -> None:
        """Close nothing."""
