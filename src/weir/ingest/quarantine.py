"""The quarantine as an operator sees it: what is in it, what was done about each record, by whom and why.

In: `landing.quarantine` and the audit rows in `landing.quarantine_actions`. Out: entries with their state; audit rows. Keep: an audit row is
never changed; an entry's state is a function of its rows.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from weir.contracts import names
from weir.errors import Terminal
from weir.ingest.clickhouse import ClickHouse

LIMIT: Final = 100
SCANNED: Final = 10_000  # the newest records, of which a state is sought
_PLACE = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>\d{1,5})/(?P<offset>\d{1,19})\Z")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `topic/partition/offset`.

        Raises:
            Terminal: it is not of that form.
        """
        found = _PLACE.match(text)
        if found is None:
            raise Terminal(f"{text!r} is not a record's place", hint="write topic/partition/offset, as ./weir quarantine list prints it")
        return cls(found["topic"], int(found["partition"]), int(found["offset"]))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class State(StrEnum):
    """What has become of a record: `replaying` is a replay that was asked for and whose end is not known."""

    OPEN = "open"
    FIXED = "fixed"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


_AFTER: Final[Mapping[str, State]] = {
    "fix": State.FIXED,
    "replay_requested": State.REPLAYING,
    "replayed": State.REPLAYED,
    "discard": State.DISCARDED,
}
# What may be done in which state: a replayed or discarded record is finished, one that is being replayed can only be replayed.
_MAY: Final[Mapping[str, frozenset[State]]] = {
    "fix": frozenset({State.OPEN, State.FIXED}),
    "replay": frozenset({State.OPEN, State.FIXED, State.REPLAYING}),
    "discard": frozenset({State.OPEN, State.FIXED}),
}


@dataclass(frozen=True, slots=True)
class Action:
    """One audit row. `at`: UTC, as ClickHouse prints it."""

    action: str
    who: str
    why: str
    at: str = ""
    value: bytes = b""
    low: int = 0
    to_offset: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record in the quarantine. `raw` is its first 4,096 bytes; `fixed` the corrected record, `low` and `to_offset` as in the audit rows.

    `contract_version`: of the contract that it was judged by, 0 where its topic has no versions; `claimed_version`: what it says itself, 0 where that can't be read.
    """

    place: Place
    produced_at: str
    reason: str
    raw: bytes
    traceparent: str
    state: State = State.OPEN
    fixed: bytes | None = None
    low: int | None = None
    to_offset: int | None = None
    actions: tuple[Action, ...] = field(default=())
    contract_version: int = 0
    claimed_version: int = 0

    def document(self, *, whole: bool = False) -> dict[str, Any]:
        """Return the entry for JSON; bytes that are not UTF-8 are shown with replacement characters, and whole as base64 too."""
        found: dict[str, Any] = {
            "place": str(self.place), "produced_at": self.produced_at, "reason": self.reason, "state": self.state,
            "raw": self.raw.decode("utf-8", "replace"), "traceparent": self.traceparent, "replayed_as": self.replayed_as,
            "contract_version": self.contract_version, "claimed_version": self.claimed_version,
        }
        if whole:
            found["raw_base64"] = base64.b64encode(self.raw).decode()
            found["fixed"] = None if self.fixed is None else self.fixed.decode("utf-8", "replace")
            found["actions"] = [{"action": a.action, "at": a.at, "who": a.who, "why": a.why} for a in self.actions]
        return found

    @property
    def replayed_as(self) -> str | None:
        """Return where the replayed record stands."""
        return None if self.to_offset is None else str(replace(self.place, offset=self.to_offset))


def after(entry: Entry, actions: Iterable[Action]) -> Entry:
    """Return the entry as its audit rows, in order, leave it. Pure."""
    for a in actions:
        entry = replace(
            entry,
            state=_AFTER[a.action],
            fixed=a.value if a.action == "fix" else entry.fixed,
            low=a.low if a.action == "replay_requested" and entry.low is None else entry.low,  # the first request bounds every later search
            to_offset=a.to_offset if a.action == "replayed" else entry.to_offset,
            actions=(*entry.actions, a),
        )
    return entry


def allow(entry: Entry, verb: str) -> None:
    """Refuse what the entry's state does not allow.

    Raises:
        Terminal: names the state.
    """
    if entry.state in _MAY[verb]:
        return
    hint = {
        State.REPLAYED: f"it stands at {entry.replayed_as} now; ./weir quarantine list shows whether that one was accepted",
        State.DISCARDED: "a discarded record stays discarded; produce a new event if it is needed after all",
        State.REPLAYING: "finish it first: ./weir quarantine replay",
    }.get(entry.state, "")
    raise Terminal(f"{entry.place} is {entry.state}: {verb} is not possible", hint=hint)


def patched(raw: bytes, settings: Sequence[str]) -> bytes:
    """Return the JSON object in `raw` with each `field=value` set; a value is JSON where it parses as such, else text. Pure.

    Raises:
        Terminal: `raw` is not a JSON object, or a setting is not field=value.
    """
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise Terminal("the record is not JSON, so no field of it can be set", hint="give the whole corrected record with --value FILE") from error
    if not isinstance(document, dict):
        raise Terminal("the record is JSON but not an object", hint="give the whole corrected record with --value FILE")
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not (name and sign):
            raise Terminal(f"{setting!r} is not field=value", hint="such as --set country=DE")
        try:
            document[name] = json.loads(text)
        except ValueError:
            document[name] = text
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


class Quarantine:
    """The two tables, over one client."""

    def __init__(self, client: ClickHouse) -> None:
        self._client = client

    def entries(self, *, reason: str = "", topic: str = "", state: State | None = None, limit: int = LIMIT) -> list[Entry]:
        """Return at most `limit` entries, newest first. A state other than open is one of the records that an audit row names: at most the newest SCANNED of those."""
        where = "WHERE (reject_reason = {reason:String} OR {reason:String} = '') AND (topic = {topic:String} OR {topic:String} = '')"
        if state is not None:
            among = "NOT IN" if state is State.OPEN else "IN"
            where += f" AND (topic, partition, offset) {among} (SELECT topic, partition, offset FROM {names.QUARANTINE_ACTIONS})"
        found = self._rows(where, limit if state in {None, State.OPEN} else SCANNED, reason=reason, topic=topic)
        return [e for e in found if state is None or e.state == state][:limit]

    def entry(self, place: Place) -> Entry:
        """Return one entry.

        Raises:
            Terminal: it is not in the quarantine.
        """
        where = "WHERE topic = {topic:String} AND partition = {partition:UInt16} AND offset = {offset:UInt64}"
        found = self._rows(where, 1, topic=place.topic, partition=place.partition, offset=place.offset)
        if not found:
            raise Terminal(f"{place} is not in the quarantine", hint="./weir quarantine list shows what is")
        return found[0]

    def record(self, place: Place, action: Action) -> None:
        """Write one audit row."""
        row: dict[str, str | int] = {
            "topic": place.topic, "partition": place.partition, "offset": place.offset, "action": action.action, "who": action.who,
            "why": action.why, "value": base64.b64encode(action.value).decode(), "low": action.low, "to_offset": action.to_offset,
        }
        columns = "topic, partition, offset, at, action, who, why, value, low, to_offset"
        values = ("{topic:String}, {partition:UInt16}, {offset:UInt64}, now64(6), {action:String}, {who:String}, {why:String}, "
                  "base64Decode({value:String}), {low:UInt64}, {to_offset:UInt64}")
        self._client.execute(f"INSERT INTO {names.QUARANTINE_ACTIONS} ({columns}) SELECT {values}", **row)

    def verdict(self, place: Place) -> str | None:
        """Return the reason that landed with the record at `place` (empty: accepted), or None while it has not landed."""
        where = "WHERE topic = {topic:String} AND partition = {partition:UInt16} AND offset = {offset:UInt64}"
        text = self._client.execute(
            f"SELECT reject_reason FROM {names.landing_of(place.topic)} {where} LIMIT 1 FORMAT JSONCompactEachRow",
            topic=place.topic, partition=place.partition, offset=place.offset,
        )
        return str(json.loads(text.splitlines()[0])[0]) if text else None

    def _rows(self, where: str, limit: int, **parameters: str | int) -> list[Entry]:
        order = "ORDER BY produced_at DESC, topic, partition, offset DESC"
        text = self._client.execute(
            f"SELECT topic, partition, offset, produced_at, reject_reason, base64Encode(raw) AS raw, traceparent, contract_version,"
            f" JSONExtractUInt({names.QUARANTINE}.raw, 'schema_version') AS claimed_version FROM {names.QUARANTINE} {where} {order} "
            f"LIMIT {limit} FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0", **parameters,
        )
        done: dict[Place, list[Action]] = {}
        for row in map(json.loads, self._actions(where, **parameters).splitlines()):
            place = Place(row["topic"], row["partition"], row["offset"])
            done.setdefault(place, []).append(
                Action(row["action"], row["who"], row["why"], row["at"], base64.b64decode(row["value"]), row["low"], row["to_offset"])
            )
        entries = []
        for row in map(json.loads, text.splitlines()):
            place = Place(row["topic"], row["partition"], row["offset"])
            entry = Entry(place, row["produced_at"], row["reject_reason"], base64.b64decode(row["raw"]), row["traceparent"],
                          contract_version=row["contract_version"], claimed_version=row["claimed_version"])
            entries.append(after(entry, done.get(place, ())))
        return entries

    def _actions(self, where: str, **parameters: str | int) -> str:
        if "reason" in parameters:
            where = "WHERE topic = {topic:String} OR {topic:String} = ''"
        return self._client.execute(
            "SELECT topic, partition, offset, at, action, who, why, base64Encode(value) AS value, low, to_offset "
            f"FROM {names.QUARANTINE_ACTIONS} {where} ORDER BY at FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0", **parameters,
        )
