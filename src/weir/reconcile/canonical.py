"""One canonical text per type, said in PostgreSQL's SQL and in ClickHouse's, so that each database hashes its own rows and the hashes compare.

In: a column with its type on either side. Out: an SQL expression for each side. Keep: pure; equal values give equal text and different values
different text (tests/contract/test_canonical.py holds both databases to it, value by value); a pair of types without such a form is refused,
never compared approximately.

Sources: PostgreSQL's manual, 8 (data types) and 9.9 (extract); ClickHouse's DateTime64, Decimal and type conversion functions; Debezium's
PostgreSQL connector, "data type mappings", for what a value looks like when it lands as a String.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from weir.contracts import source_types
from weir.errors import ContractViolation

_DECIMAL_TEXT = (
    "multiIf(upper({c}) = 'NAN', 'NaN', upper({c}) IN ('INFINITY', 'POSITIVE_INFINITY'), 'Infinity', upper({c}) IN ('-INFINITY', 'NEGATIVE_INFINITY'), '-Infinity',"
    " position({c}, '.') > 0, trim(TRAILING '.' FROM trim(TRAILING '0' FROM {c})), {c})"
)
_FLOAT_BITS = "if(isNaN({c}), 'NaN', lower(leftPad(hex(reinterpretAsUInt64(toFloat64({c}) + 0)), 16, '0')))"
_TICKS = {"0": "toString(toUnixTimestamp({c}))", "3": "toString(toUnixTimestamp64Milli({c}))", "6": "toString(toUnixTimestamp64Micro({c}))",
          "9": "toString(toUnixTimestamp64Nano({c}))"}
_TRUTH = "multiIf(isNull({c}), NULL, {c} != 0, 't', 'f')"
# PostgreSQL's infinite dates and times land as the last and first that ClickHouse has (contracts.source_types).
_ISO = (
    f"multiIf({{c}} = 'infinity', '{source_types.LAST_US}', {{c}} = '-infinity', '{source_types.FIRST_US}',"
    " toString(toUnixTimestamp64Micro(parseDateTime64BestEffortOrNull({c}, 6, 'UTC'))))"
)
_DAYS = (
    f"multiIf(toInt64({{c}}) IN {source_types.INFINITE_DAYS}, '{source_types.LAST_DAY}', toInt64({{c}}) IN {source_types.MINUS_INFINITE_DAYS},"
    f" '{source_types.FIRST_DAY}', toString({{c}}))"
)
_ENDS = f"WHEN {{c}} > '1970-01-01' THEN floor({source_types.LAST_US}::numeric * {{scale}} / 1000000)::numeric(40, 0)::text"
_ENDS += f" WHEN {{c}} < '1970-01-01' THEN floor({source_types.FIRST_US}::numeric * {{scale}} / 1000000)::numeric(40, 0)::text"


@dataclass(frozen=True, slots=True)
class Form:
    """The canonical text of one source type: its SQL there, and for each family of sink types its SQL and what a default value there looks like."""

    source: str
    sink: Mapping[str, tuple[str, str]]


_PLAIN = Form("CASE WHEN {c} IS NOT NULL THEN format('%s', {c}) END", {"String": ("{c}", ""), "Enum": ("toString({c})", "")})
_INTEGER = Form("({c})::text", {"Int": ("toString({c})", "0"), "String": ("{c}", "")})
_FLOAT = Form("CASE WHEN ({c})::float8 = 'NaN' THEN 'NaN' ELSE encode(float8send(({c})::float8 + 0), 'hex') END", {"Float": (_FLOAT_BITS, "0" * 16)})
_INSTANT = Form(
    f"CASE WHEN isfinite({{c}}) THEN floor(extract(epoch FROM {{c}}) * {{scale}})::numeric(40, 0)::text {_ENDS} END",
    {"DateTime64": ("{ticks}", "0"), "DateTime": ("toString(toUnixTimestamp({c}))", "0"), "String": (_ISO, "")},
)

FORMS: Final[Mapping[str, Form]] = {
    "smallint": _INTEGER, "integer": _INTEGER, "bigint": _INTEGER,
    "boolean": Form("CASE WHEN {c} THEN 't' WHEN NOT {c} THEN 'f' END", {"Bool": (_TRUTH, "f"), "Int": (_TRUTH, "f")}),
    "numeric": Form("trim_scale({c})::text", {"Decimal": ("toString({c})", "0"), "String": (_DECIMAL_TEXT, ""), "Int": ("toString({c})", "0")}),
    "real": _FLOAT, "double precision": _FLOAT,
    "text": _PLAIN, "character varying": _PLAIN, "enum": _PLAIN, "inet": _PLAIN, "cidr": _PLAIN, "macaddr": _PLAIN,
    "character": Form("CASE WHEN {c} IS NOT NULL THEN rtrim(format('%s', {c}), ' ') END", {"String": ("trim(TRAILING ' ' FROM {c})", "")}),
    "json": _PLAIN, "jsonb": _PLAIN,  # as PostgreSQL prints it, which is what Debezium sends
    "uuid": Form("({c})::text", {"UUID": ("toString({c})", "00000000-0000-0000-0000-000000000000"), "String": ("lower({c})", "")}),
    "bytea": Form("encode({c}, 'hex')", {"String": ("lower(hex({c}))", "")}),
    "timestamp with time zone": _INSTANT, "timestamp without time zone": _INSTANT,
    "date": Form(f"CASE WHEN isfinite({{c}}) THEN ({{c}} - DATE '1970-01-01')::text WHEN {{c}} > '1970-01-01' THEN '{source_types.LAST_DAY}'"
                 f" WHEN {{c}} < '1970-01-01' THEN '{source_types.FIRST_DAY}' END",
                 {"Date": ("toString(toInt32({c}))", "0"), "Int": (_DAYS, "0")}),
    "interval": Form("'P' || extract(year FROM {c}) || 'Y' || extract(month FROM {c}) || 'M' || extract(day FROM {c}) || 'DT' || extract(hour FROM {c}) || 'H'"
                     " || extract(minute FROM {c}) || 'M' || trim_scale(extract(second FROM {c})) || 'S'", {"String": ("{c}", "")}),
    "money": Form("trim_scale(({c})::numeric)::text", {"Decimal": ("toString({c})", "0")}),
    "bit": Form("CASE {c} WHEN B'1' THEN 't' WHEN B'0' THEN 'f' END", {"Bool": (_TRUTH, "f")}), "oid": _INTEGER,
    "macaddr8": _PLAIN, "tsvector": _PLAIN, "int4range": _PLAIN, "int8range": _PLAIN, "numrange": _PLAIN, "daterange": _PLAIN, "tsrange": _PLAIN,
    "time without time zone": Form("floor(extract(epoch FROM {c}) * 1000000)::bigint::text", {"Int": ("toString({c})", "0")}),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column on both sides: `source_type` as format_type() says it (enum types: `enum`), `sink_type` as system.columns does."""

    name: str
    source_type: str
    sink_type: str
    nullable: bool = True  # at the source


def _inner(sink_type: str) -> tuple[str, bool]:
    """Return the type without LowCardinality and Nullable, and whether it was Nullable."""
    nullable = False
    while match := re.fullmatch(r"(LowCardinality|Nullable)\((.*)\)", sink_type):
        nullable |= match[1] == "Nullable"
        sink_type = match[2]
    return sink_type, nullable


def _family(sink_type: str) -> str:
    word = re.match(r"[A-Za-z]+", sink_type)
    name = word[0] if word else sink_type
    if sink_type.startswith("DateTime64"):
        return "DateTime64"
    return {"UInt": "Int"}.get(name, name)


def _refuse(column: Column) -> ContractViolation:
    return ContractViolation(
        f"column {column.name}: no canonical form for {column.source_type} landed as {column.sink_type}", hint="it is left out of the hash and named as unchecked"
    )


def _scalar(column: Column, source_type: str, sink_type: str, names: tuple[str, str]) -> tuple[str, str, str]:
    """Return (source SQL, sink SQL, text of the sink's default value)."""
    form = FORMS.get(re.sub(r"\s*\(.*?\)", "", source_type))
    found = None if form is None else form.sink.get(_family(sink_type))
    if form is None or found is None:
        raise _refuse(column)
    digits = re.match(r"DateTime64\((\d)", sink_type)
    precision = digits[1] if digits else ("0" if sink_type.startswith("DateTime") else "6")
    if precision not in _TICKS:
        raise _refuse(column)
    ticks = _TICKS[precision].format(c=names[1])
    return form.source.format(c=names[0], scale=10 ** int(precision)), found[0].format(c=names[1], ticks=ticks), found[1]


def frame_source(text: str) -> str:
    """Return SQL that makes texts safe to join in PostgreSQL: length in bytes, a colon, the text; N for null."""
    return f"coalesce(octet_length({text})::text || ':' || ({text}), 'N')"


def frame_sink(text: str) -> str:
    """Return the same in ClickHouse."""
    return f"ifNull(concat(toString(length({text})), ':', {text}), 'N')"


def expressions(column: Column) -> tuple[str, str]:
    """Return the canonical text of a column as (PostgreSQL's SQL, ClickHouse's SQL); each is null where the value is.

    A nullable source column whose sink type is not Nullable lands as that type's default value, so that null and default cannot be told apart.

    Raises:
        ContractViolation: this pair of types has no canonical form.
    """
    sink_type, sink_nullable = _inner(column.sink_type)
    names = (f'"{column.name}"', f"`{column.name}`")
    array = re.fullmatch(r"Array\((.*)\)", sink_type)
    if column.source_type.endswith("[]") != bool(array):
        raise _refuse(column)
    if array:
        element, _ = _inner(array[1])
        source, sink, _ = _scalar(column, column.source_type[:-2], element, ("e", "e"))
        listed = f"(SELECT coalesce(string_agg({frame_source(source)}, '' ORDER BY o), '') FROM unnest({names[0]}) WITH ORDINALITY AS u(e, o))"
        flat = f"CASE WHEN array_ndims({names[0]}) > 1 THEN 'of several dimensions ' ELSE '' END"
        source, sink, default = (
            f"CASE WHEN {names[0]} IS NOT NULL THEN {flat} || {listed} END", f"arrayStringConcat(arrayMap(e -> {frame_sink(sink)}, {names[1]}))", "",
        )
    else:
        source, sink, default = _scalar(column, column.source_type, sink_type, names)
    if column.nullable and not sink_nullable:
        source = f"coalesce({source}, '{default}')"
    return source, sink


def row_text(columns: list[tuple[str, str]]) -> tuple[str, str]:
    """Return the text of a row, on each side, from its columns' expressions."""
    return " || ".join(frame_source(s) for s, _ in columns), f"concat({', '.join(frame_sink(s) for _, s in columns)}, '')"


def hash64(text: tuple[str, str]) -> tuple[str, str]:
    """Return the first eight bytes of the text's MD5 as an integer: signed in PostgreSQL, unsigned in ClickHouse (equal modulo 2^64)."""
    return f"('x' || substr(md5({text[0]}), 1, 16))::bit(64)::bigint", f"reinterpretAsUInt64(reverse(substring(MD5({text[1]}), 1, 8)))"


def hash32(text: tuple[str, str]) -> tuple[str, str]:
    """Return the first four bytes of the text's MD5 as an integer from 0 to 2^32 - 1 on both sides: what a key's bucket is cut from."""
    return f"('x' || substr(md5({text[0]}), 1, 8))::bit(32)::bigint", f"toInt64(reinterpretAsUInt32(reverse(substring(MD5({text[1]}), 1, 4))))"
