"""Room `catalogue`: the item catalogue's HTTP API in Protobuf, and its publication to topic item-catalogue."""

from __future__ import annotations

from weir.catalogue.publication import publish

__all__ = ["publish"]
