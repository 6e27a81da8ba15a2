"""Redis, read: a user's hash per request, the items' and countries' hashes by refresh.

In: a Redis URL. Out: raw hash fields. Keep: one round trip per request, with a limit on waiting; keys are found by SCAN on an entity's
prefix, never by KEYS (which stops the server).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import redis
import redis.asyncio
from redis.exceptions import RedisError

from weir.contracts.online import entity_key, entity_prefix, entity_value, written_key
from weir.errors import Unavailable
from weir.serving.catalogue import COUNTRY_FIELDS, ITEM_FIELDS, Raw
from weir.serving.features import USER_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TIMEOUT_S: Final = 0.25  # a request answers without features rather than later than this
REFRESH_TIMEOUT_S: Final = 2.0
BATCH: Final = 500  # keys a pipeline: 500 x 13 small fields stay well below 1 MB


class RedisFeatures:
    """The requests' reader (see weir.serving.features.FeatureReader)."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=64
        )

    async def user(self, user_id: int) -> Sequence[bytes | None]:
        """Return the values of USER_FIELDS in one HMGET.

        Raises:
            Unavailable: Redis did not answer in time.

        """
        try:
            found: list[bytes | None] = await self._client.hmget(entity_key("user_id", user_id), list(USER_FIELDS))  # type: ignore[misc,arg-type]  # (stub) one signature serves sync and async
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Redis did not answer a feature read", hint="see ./weir status") from error
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class RedisCatalogue:
    """The refresher's reader; used by one thread."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=REFRESH_TIMEOUT_S, socket_connect_timeout=REFRESH_TIMEOUT_S
        )

    def entities(self, entity: str) -> Iterator[int | str]:
        """Yield every entity value that has a hash."""
        pattern = entity_prefix(entity) + b"*"  # the prefix holds no glob character: lengths are small, names are letters and _
        for key in self._client.scan_iter(match=pattern, count=1000):
            value = entity_value(entity, key)
            if value is not None:
                yield value

    def written(self) -> tuple[bytes | None, ...]:
        """Return what the materializer's writes to items and to countries are counted as: none of either, when it never wrote."""
        found: list[bytes | None] = self._client.mget(written_key("item_id"), written_key("country"))  # type: ignore[assignment]  # (stub) one signature serves sync and async
        return tuple(found)

    def items(self, ids: Sequence[int]) -> dict[int, Raw]:
        """Return ITEM_FIELDS of each item."""
        return {int(i): raw for i, raw in self._read("item_id", ids, ITEM_FIELDS).items()}

    def countries(self, names: Sequence[str]) -> dict[str, Raw]:
        """Return COUNTRY_FIELDS of each country."""
        return {str(n): raw for n, raw in self._read("country", names, COUNTRY_FIELDS).items()}

    def _read(self, entity: str, values: Sequence[int] | Sequence[str], fields: Sequence[bytes]) -> dict[int | str, Raw]:
        out: dict[int | str, Raw] = {}
        for start in range(0, len(values), BATCH):
            chunk: Sequence[int | str] = values[start : start + BATCH]
            pipe = self._client.pipeline(transaction=False)
            for value in chunk:
                pipe.hmget(entity_key(entity, value), list(fields))  # type: ignore[arg-type]  # (stub) bytes fields are accepted
            out |= {value: tuple(raw) for value, raw in zip(chunk, pipe.execute(), strict=True)}
        return out

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
