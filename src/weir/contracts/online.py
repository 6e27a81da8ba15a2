"""The online store's bytes: Feast's Redis format (entity key version 3), written and read without importing Feast (8 s of CPU).

In: a view contract, an entity, values. Out: the Redis key, the hash fields, the encoded values, and back.
Keep: equal byte for byte to `feast.infra.online_stores.redis` 0.67 for the types of `ValueType` (a contract test compares them).
All views of one entity share one Redis hash, so one HMGET reads several views of a user.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import mmh3

from weir.contracts.features import FEAST_PROJECT, FeatureViewContract, ValueType
from weir.errors import ContractViolation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Value = int | float | str | bool | list[int] | list[float] | list[str] | None

# Field numbers of feast.types.Value, and of feast.types.ValueType.Enum for keys
_FIELD: Final = {
    ValueType.STRING: 2,
    ValueType.INT64: 4,
    ValueType.DOUBLE: 5,
    ValueType.BOOL: 7,
    ValueType.STRING_LIST: 12,
    ValueType.INT64_LIST: 14,
    ValueType.DOUBLE_LIST: 15,
}
_KEY_STRING: Final = 2
_KEY_INT64: Final = 4
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64: Final = (1 << 64) - 1


def entity_prefix(entity: str) -> bytes:
    """Return the bytes with which every Redis key of `entity` begins (join key names, entity key version 3)."""
    name = entity.encode()
    return struct.pack("<III", 1, _KEY_STRING, len(name)) + name


def entity_key(entity: str, value: int | str, project: str = FEAST_PROJECT) -> bytes:
    """Return the Redis key of one entity value."""
    if isinstance(value, str):
        raw = value.encode()
        return entity_prefix(entity) + struct.pack("<II", _KEY_STRING, len(raw)) + raw + project.encode()
    return entity_prefix(entity) + struct.pack("<IIq", _KEY_INT64, 8, value) + project.encode()


def entity_value(entity: str, key: bytes, project: str = FEAST_PROJECT) -> int | str | None:
    """Return the entity value inside a Redis key, or None when the key is of another entity or project."""
    prefix, suffix = entity_prefix(entity), project.encode()
    if not key.startswith(prefix) or len(key) < len(prefix) + 8:
        return None
    kind, size = struct.unpack_from("<II", key, len(prefix))
    start = len(prefix) + 8
    if key[start + size :] != suffix:
        return None
    raw = key[start : start + size]
    if kind == _KEY_INT64:
        return int(struct.unpack("<q", raw)[0])
    return raw.decode() if kind == _KEY_STRING else None


def feature_field(view: str, feature: str) -> bytes:
    """Return the hash field of one feature: murmur3-32 of `view:feature`, little endian."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """Return the hash field of a view's event time."""
    return f"_ts:{view}".encode()


def written_key(entity: str) -> str:
    """Return the Redis key that counts the materializer's writes to an entity's features: while it stays, what was read stands. Weir's own; Feast has none."""
    return f"weir:written:{entity}"


def view_fields(view: FeatureViewContract) -> list[bytes]:
    """Return the hash fields of a view: its event time first, then its features in the contract's order."""
    return [timestamp_field(view.name), *(feature_field(view.name, name) for name, _ in view.features)]


def _varint(number: int) -> bytes:
    number &= _MASK64
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - protobuf's seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return result & _MASK64, at
        shift += 7


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _framed(field: int, payload: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(payload)) + payload


def encode_timestamp(milliseconds: int) -> bytes:
    """Return google.protobuf.Timestamp of milliseconds since the epoch."""
    seconds, rest = divmod(milliseconds, 1000)
    out = _tag(1, _VARINT) + _varint(seconds) if seconds else b""
    return out + _tag(2, _VARINT) + _varint(rest * 1_000_000) if rest else out


def decode_timestamp(data: bytes) -> int:
    """Return milliseconds since the epoch of a google.protobuf.Timestamp."""
    seconds = nanos = 0
    for field, _, value in _walk(data):
        if isinstance(value, int):
            seconds, nanos = (_signed(value), nanos) if field == 1 else (seconds, value)
    return seconds * 1000 + nanos // 1_000_000


def encode_value(kind: ValueType, value: Value) -> bytes:
    """Return feast.types.Value of `value`; None becomes the empty message, as Feast writes a missing value."""
    if value is None:
        return b""
    field = _FIELD[kind]
    if isinstance(value, list):
        return _framed(field, _encode_list(kind, value))
    if kind is ValueType.STRING:
        return _framed(field, str(value).encode())
    if kind is ValueType.DOUBLE:
        return _tag(field, _FIXED64) + struct.pack("<d", float(value))
    if kind in {ValueType.INT64, ValueType.BOOL}:
        return _tag(field, _VARINT) + _varint(int(value))
    raise ContractViolation(f"a single value was given for {kind}", hint="give a list")


def _encode_list(kind: ValueType, values: Sequence[int | float | str]) -> bytes:
    if not values:
        return b""
    if kind is ValueType.STRING_LIST:
        return b"".join(_framed(1, str(v).encode()) for v in values)
    if kind is ValueType.INT64_LIST:
        return _framed(1, b"".join(_varint(int(v)) for v in values))
    if kind is ValueType.DOUBLE_LIST:
        return _framed(1, struct.pack(f"<{len(values)}d", *values))
    raise ContractViolation(f"a list was given for {kind}", hint="give a single value")


def _walk(data: bytes) -> Iterable[tuple[int, int, int | bytes]]:
    """Yield (field, wire type, value) of one message; raises IndexError or struct.error when it is cut short."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            number, at = _read_varint(data, at)
            yield field, wire, number
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
            yield field, wire, data[at : at + size]
            at += size
        elif wire == _BYTES:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise IndexError
            yield field, wire, data[at : at + size]
            at += size
        else:
            raise ContractViolation(f"wire type {wire} is not one of Protobuf's", hint="the value was not written by Feast")


def decode_value(kind: ValueType, data: bytes | None) -> Value:
    """Return the Python value of a feast.types.Value, or None when it is absent or null.

    Raises:
        ContractViolation: the bytes are not a Value.

    """
    if not data:
        return None
    try:
        for field, _, value in _walk(data):
            if field == _FIELD[kind]:
                return _decode(kind, value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ContractViolation("a stored feature value cannot be decoded", hint="materialize the view again") from error
    return None


def _decode(kind: ValueType, value: int | bytes) -> Value:
    if isinstance(value, int):
        return bool(value) if kind is ValueType.BOOL else _signed(value)
    if kind is ValueType.STRING:
        return value.decode()
    if kind is ValueType.DOUBLE:
        return float(struct.unpack("<d", value)[0])
    if kind is ValueType.STRING_LIST:
        return [v.decode() for _, _, v in _walk(value) if isinstance(v, bytes)]
    if kind is ValueType.DOUBLE_LIST:
        return [x for _, _, v in _walk(value) if isinstance(v, bytes) for x in struct.unpack(f"<{len(v) // 8}d", v)]
    found: list[int] = []
    for _, _, packed in _walk(value):
        if isinstance(packed, int):
            found.append(_signed(packed))
            continue
        at = 0
        while at < len(packed):
            number, at = _read_varint(packed, at)
            found.append(_signed(number))
    return found


def encode_row(view: FeatureViewContract, values: Sequence[Value], event_ms: int) -> dict[bytes, bytes]:
    """Return the hash fields and bytes of one row of a view; `values` in the contract's order."""
    out = {timestamp_field(view.name): encode_timestamp(event_ms)}
    for (name, kind), value in zip(view.features, values, strict=True):
        out[feature_field(view.name, name)] = encode_value(kind, value)
    return out
