"""How each PostgreSQL type lands: what Debezium's record holds, the type in ClickHouse, the SQL that reads it, and what does not fit.

In: a type as PostgreSQL's format_type() says it (domains as their base type, enum types as `enum`). Out: a `Landing`, or why there is none. Keep: pure;
every type here was tested value by value through Debezium, by snapshot and by stream (tests/types_page.py, docs/reference/types.md); a type that Debezium
leaves out, or sends as null from the stream alone, has no landing and is refused before its first row.

Source: Debezium's PostgreSQL connector, "data type mappings", with decimal.handling.mode=string, time.precision.mode=adaptive_time_microseconds and
interval.handling.mode=string (connect/connectors/shop.json), and what 3.7.0 was seen to send; ClickHouse's Date32 and DateTime64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

# ClickHouse's dates and times end there; PostgreSQL's infinity lands as the last value and -infinity as the first.
FIRST_DAY, LAST_DAY = -25_567, 120_529  # 1900-01-01, 2299-12-31
FIRST_US, LAST_US = -2_208_988_800_000_000, 10_413_791_999_999_999

# What Debezium 3.7.0 sends for an infinite date, from the stream and from a snapshot: no day that PostgreSQL has (-2440550 to 2145042905 there).
INFINITE_DAYS: Final = (2_146_033_979, -622_191_234)
MINUS_INFINITE_DAYS: Final = (-2_147_472_691, -625_821_272)
# Infinite timestamps arrive near the ends of int64, in microseconds and milliseconds alike; finite ones of PostgreSQL's year 294276 do too.
INFINITE_TICKS: Final = 9_223_372_036_800_000_000

_LAST = "toDateTime64('2299-12-31 23:59:59.999999', 6, 'UTC')"
_FIRST = "toDateTime64('1900-01-01 00:00:00', 6, 'UTC')"


@dataclass(frozen=True, slots=True)
class Landing:
    """One type's way. `json`: what the record holds; `sink`: ClickHouse's type; `raw`: what JSONExtract reads; `sql`: of that value, {v}.

    `low`, `high`, `also`: the numbers that fit, and others that do; `pattern`: the texts that do. What does not fit would land as another value, so
    ingest stops the table there instead (docs/decisions/0015).
    """

    json: type
    sink: str
    raw: str
    sql: str = "{v}"
    low: int | None = None
    high: int | None = None
    also: tuple[int, ...] = ()
    pattern: str = ""
    remark: str = ""

    def fits(self, value: Any) -> bool:
        """Say whether a value that is not null lands as itself."""
        if self.json is list:
            return isinstance(value, list)
        if isinstance(value, bool) is not (self.json is bool):
            return False
        if self.json is float:
            return isinstance(value, (int, float)) or value in {"NaN", "Infinity", "-Infinity"}
        if isinstance(value, int) and self.json is int and self.low is not None and self.high is not None:
            return self.low <= value <= self.high or value in self.also
        return isinstance(value, self.json) and (not self.pattern or re.fullmatch(self.pattern, str(value)) is not None)


def _whole(bits: int) -> Landing:
    return Landing(int, f"Int{bits}", f"Int{bits}", low=-(1 << bits - 1), high=(1 << bits - 1) - 1)


_TEXT: Final = Landing(str, "String", "String")
_DAYS = f"multiIf({{v}} IN {INFINITE_DAYS}, toDate32('2299-12-31'), {{v}} IN {MINUS_INFINITE_DAYS}, toDate32('1900-01-01'), addDays(toDate32('1970-01-01'), {{v}}))"
_CLAMPED = "1900 to 2299; infinity lands as the last value, -infinity as the first, any other value outside stops the table"
_EXACT = "exact, of any scale; NAN, POSITIVE_INFINITY and NEGATIVE_INFINITY as Debezium writes them"
_TIMESTAMP = f"multiIf({{v}} >= {INFINITE_TICKS}, {_LAST}, {{v}} <= -{INFINITE_TICKS}, {_FIRST}, fromUnixTimestamp64Micro({{v}}, 'UTC'))"
_TIMESTAMP_MS = _TIMESTAMP.replace("fromUnixTimestamp64Micro({v}, 'UTC')", "toDateTime64(fromUnixTimestamp64Milli({v}, 'UTC'), 6, 'UTC')")
_ISO = f"multiIf({{v}} = 'infinity', {_LAST}, {{v}} = '-infinity', {_FIRST}, parseDateTime64BestEffortOrNull({{v}}, 6, 'UTC'))"
_FLOAT = {bits: Landing(float, f"Float{bits}", "String", f"toFloat{bits}OrNull({{v}})", remark="NaN and both infinities too") for bits in (32, 64)}

LANDINGS: Final[dict[str, Landing]] = {
    "smallint": _whole(16),
    "integer": _whole(32),
    "bigint": _whole(64),
    "oid": Landing(int, "Int64", "Int64", low=0, high=(1 << 32) - 1),
    "boolean": Landing(bool, "Bool", "Bool"),
    "bit(1)": Landing(bool, "Bool", "Bool", remark="longer bit strings have no landing: Debezium drops their length"),
    "real": _FLOAT[32],
    "double precision": _FLOAT[64],
    "numeric": replace(_TEXT, remark=_EXACT),
    "money": Landing(str, "Decimal(19, 2)", "String", "accurateCastOrNull({v}, 'Decimal(19, 2)')", pattern=r"-?[0-9]+(\.[0-9]+)?"),
    "text": _TEXT,
    "character varying": _TEXT,
    "character": replace(_TEXT, remark="padded with blanks, as PostgreSQL gives it"),
    "enum": replace(_TEXT, remark="its label"),
    "json": replace(_TEXT, remark="its text, blanks and order as written"),
    "jsonb": replace(_TEXT, remark="its text as PostgreSQL prints it"),
    "uuid": Landing(str, "UUID", "String", "toUUIDOrNull({v})"),
    "bytea": Landing(str, "String", "String", "tryBase64Decode({v})", remark="its bytes"),
    "date": Landing(int, "Date32", "Int64", _DAYS, FIRST_DAY, LAST_DAY, INFINITE_DAYS + MINUS_INFINITE_DAYS, remark=_CLAMPED),
    "timestamp without time zone": Landing(int, "DateTime64(6, 'UTC')", "Int64", _TIMESTAMP, FIRST_US, LAST_US, (-(1 << 63), (1 << 63) - 1), remark=f"as if in UTC; {_CLAMPED}"),
    "timestamp with time zone": Landing(
        str, "DateTime64(6, 'UTC')", "String", _ISO, pattern=r"-?infinity|(19|2[012])[0-9]{2}-[0-9T:.-]+Z", remark=f"the instant, in UTC; {_CLAMPED}"
    ),
    "time without time zone": Landing(int, "Int64", "Int64", low=0, high=86_400_000_000, remark="microseconds since midnight; 24:00:00 too"),
    "time with time zone": replace(_TEXT, remark="moved to UTC"),
    "interval": replace(_TEXT, remark="ISO 8601, years to seconds apart: P1Y2M3DT4H5M6.789S"),
    "inet": replace(_TEXT, remark="with its mask where it has one"),
    "cidr": _TEXT,
    "macaddr": _TEXT,
    "macaddr8": _TEXT,
    "int4range": replace(_TEXT, remark="PostgreSQL's own text, bounds made canonical"),
    "int8range": _TEXT,
    "numrange": _TEXT,
    "daterange": _TEXT,
    "tsrange": _TEXT,
    "tstzrange": replace(_TEXT, remark="in the time zone of the server's setting"),
    "tsvector": _TEXT,
}

# Arrays of these arrive whole; of others not at all or, like enum[], as null.
ARRAYS: Final = frozenset({
    "smallint", "integer", "bigint", "boolean", "real", "double precision", "numeric", "text", "character varying", "character", "uuid", "bytea", "date",
    "timestamp without time zone", "timestamp with time zone", "time without time zone", "json", "jsonb", "inet", "cidr", "macaddr", "int4range", "int8range",
})
ARRAY_REMARK: Final = "of one dimension; a null array lands as an empty one; what is inside several dimensions, and NaN in numeric[], Debezium sends as null"

# Seen to arrive never, as null, or shortened; and what to change a column to.
REFUSED: Final = {
    "name": "null from the stream, though not from a snapshot", '"char"': "not tested", "enum[]": "as null", "interval[]": "never", "bit": "without its length",
    "bit varying": "without its length", "tsquery": "never", "pg_lsn": "never", "jsonpath": "never", "point": "as an object", "line": "as an object", "box": "as an object",
    "circle": "as an object", "polygon": "as an object", "path": "as an object", "lseg": "as an object",
}

DECIMAL_DIGITS: Final = 76  # ClickHouse's widest


def _decimal(precision: int, scale: int) -> Landing | None:
    if scale < 0 or scale > precision:
        return None  # Debezium writes thousands of zeros for a negative scale
    if precision > DECIMAL_DIGITS:
        return LANDINGS["numeric"]
    kind = f"Decimal({precision}, {scale})"
    return Landing(str, kind, "String", f"accurateCastOrNull({{v}}, '{kind}')", pattern=r"-?[0-9]+(\.[0-9]+)?", remark="exact; NaN stops the table, since a Decimal has none")


def landing(source_type: str) -> Landing | None:
    """Return how a type lands, or None when it does not."""
    if source_type.endswith("[]"):
        element = landing(source_type[:-2])
        if element is None or re.sub(r"\s*\(.*?\)", "", source_type[:-2]) not in ARRAYS:
            return None
        sql = "{v}" if element.sql == "{v}" else f"arrayMap(e -> {element.sql.replace('{v}', 'e')}, {{v}})"
        return Landing(list, f"Array(Nullable({element.sink}))", f"Array(Nullable({element.raw}))", sql, remark=ARRAY_REMARK)
    if match := re.fullmatch(r"numeric\((\d+),(-?\d+)\)", source_type):
        return _decimal(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"timestamp\(([0-3])\) without time zone", source_type):
        scaled = LANDINGS["timestamp without time zone"]
        return replace(scaled, sql=_TIMESTAMP_MS, low=FIRST_US // 1000, high=LAST_US // 1000, also=(-9_223_372_036_832_400_000, 9_223_372_036_825_200_000))
    if source_type in LANDINGS:
        return LANDINGS[source_type]
    base = re.sub(r"\s*\(.*?\)", "", source_type)
    return None if base == "bit" else LANDINGS.get("interval" if base.startswith("interval ") else base)


def refusal(source_type: str) -> str:
    """Return how a type without a landing arrives, for a message."""
    return REFUSED.get(source_type, REFUSED.get(re.sub(r"\s*\(.*?\)", "", source_type), "never, or in a form that was not tested"))


def sink_type(source_type: str, *, nullable: bool) -> str:
    """Return the ClickHouse type of a column that lands; arrays cannot be Nullable.

    Raises:
        KeyError: it has no landing.
    """
    found = landing(source_type)
    if found is None:
        raise KeyError(source_type)
    return f"Nullable({found.sink})" if nullable and found.json is not list else found.sink


def read(name: str, source_type: str, *, nullable: bool, document: str = "doc") -> str:
    """Return the SQL that reads a column from a row's JSON `document`; raises as `sink_type`."""
    found = landing(source_type)
    if found is None:
        raise KeyError(source_type)
    key = "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
    raw = found.raw if found.json is list else f"Nullable({found.raw})"
    value = found.sql.replace("{v}", f"JSONExtract({document}, {key}, '{raw}')")
    return value if nullable or found.json is list else f"assumeNotNull({value})"
