"""The online store, written by compare-and-set on a version.

In: rows of a view, the version (when they were read, in ms). Out: fields of the entity's Redis hash. Keep: a write whose version is below the
stored one changes nothing; an equal or higher one does, so a corrected value with an unchanged event time is written (Feast's own writer
skips it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import redis

from weir.contracts.features import FeatureViewContract
from weir.contracts.online import (
    Value,
    encode_row,
    entity_key,
    entity_prefix,
    entity_value,
    feature_field,
    timestamp_field,
    written_key,
)
from weir.errors import Unavailable

BATCH = 500  # keys in one pipeline: bounded memory, and the server is never held long

# KEYS[1]: entity. ARGV: version field, version, then field, value, …  Returns 1 when a value changed: a sweep reads views whole, and most of their rows are as they
# were. No expiry: views of one entity share the hash.
_WRITE = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and tonumber(old) > tonumber(ARGV[2]) then return 0 end
local fields = {}
for i = 3, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
local stored = redis.call('HMGET', KEYS[1], unpack(fields))
for i = 1, #fields do
  if stored[i] ~= ARGV[2 * i + 2] then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], unpack(ARGV, 3))
    return 1
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 0
"""
# KEYS[1]: entity. ARGV: version field, version, then the fields to remove. The version stays, so that an older write cannot bring them back.
_DELETE = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and tonumber(old) > tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


def version_field(view: str) -> bytes:
    """Return the hash field that holds a view's write version; Feast ignores it."""
    return f"_wv:{view}".encode()


def _glob(prefix: bytes) -> bytes:
    """Return a SCAN pattern for keys that begin with `prefix`, whose bytes may be wildcards."""
    return b"".join(b"\\" + bytes([b]) if b in b"*?[]^\\-" else bytes([b]) for b in prefix) + b"*"


@dataclass(frozen=True, slots=True)
class Row:
    """One row to write: the entity's value, the features in the contract's order, the event time in ms."""

    entity: int | str
    values: tuple[Value, ...]
    event_ms: int


class OnlineStore:
    """Writes to one Redis."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._write = self._client.register_script(_WRITE)
        self._delete = self._client.register_script(_DELETE)

    def write(self, view: FeatureViewContract, rows: Sequence[Row], version_ms: int) -> int:
        """Write rows read at `version_ms`; return how many changed by it: not those that are newer already, or the same.

        Raises:
            Unavailable: Redis does not answer.
        """
        def arguments(row: Row) -> list[bytes | int]:
            fields = encode_row(view, row.values, row.event_ms)
            flat: list[bytes | int] = [version_field(view.name), version_ms]
            for field, value in fields.items():
                flat += [field, value]
            return flat

        return self._pipelined(view.entity, self._write, ((entity_key(view.entity, r.entity), arguments(r)) for r in rows))

    def delete(self, view: FeatureViewContract, entities: Iterable[int | str], version_ms: int) -> int:
        """Remove a view's features of entities that have no row any more (deleted, or out of the window)."""
        fields: list[bytes | int] = [timestamp_field(view.name), *(feature_field(view.name, name) for name, _ in view.features)]
        return self._pipelined(view.entity, self._delete, ((entity_key(view.entity, e), [version_field(view.name), version_ms, *fields]) for e in entities))

    def _pipelined(self, entity: str, script: object, calls: Iterable[tuple[bytes, list[bytes | int]]]) -> int:
        changed, pending = 0, 0
        try:
            pipe = self._client.pipeline(transaction=False)
            for key, arguments in calls:
                script(keys=[key], args=arguments, client=pipe)  # type: ignore[operator]  # (stub) redis' Script is callable
                pending += 1
                if pending == BATCH:
                    changed += sum(pipe.execute())
                    pending = 0
            if pending:
                changed += sum(pipe.execute())
            if changed:  # after the writes that it stands for; when this fails, the caller writes them again
                self._client.incr(written_key(entity))
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
        return changed

    def entities(self, view: FeatureViewContract) -> set[int | str]:
        """Return the entities that have features of `view` now (a scan: for start-up, not for the loop)."""
        found: set[int | str] = set()
        try:
            keys = self._client.scan_iter(match=_glob(entity_prefix(view.entity)), count=1000)
            while chunk := list(islice(keys, BATCH)):
                pipe = self._client.pipeline(transaction=False)
                for key in chunk:
                    pipe.hexists(key, timestamp_field(view.name))  # type: ignore[arg-type]  # (stub) bytes are fine
                found |= {e for key, has in zip(chunk, pipe.execute(), strict=True) if has and (e := entity_value(view.entity, key)) is not None}
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
        return found

    def watermark(self, name: str) -> str:
        """Return a stored watermark, or an empty string."""
        try:
            found = self._client.get(f"weir:watermark:{name}")
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
        return found.decode() if isinstance(found, bytes) else ""

    def set_watermark(self, name: str, value: str) -> None:
        """Store a watermark; call it after the writes that it stands for."""
        try:
            self._client.set(f"weir:watermark:{name}", value)
        except (redis.RedisError, OSError) as error:
            raise Unavailable(f"Redis does not answer: {error}", hint="./weir logs redis shows why") from error
