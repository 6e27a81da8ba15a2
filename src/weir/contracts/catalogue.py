"""The catalogue's Protobuf messages, as in `ingest/contracts/item.proto` (a contract test holds both together).

The descriptor is built here, since no Protobuf compiler comes with the environment.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "weir.catalogue.v1"
_F = descriptor_pb2.FieldDescriptorProto

# name, number, type, repeated
ENTRY_FIELDS: Final = (
    ("item_id", 1, _F.TYPE_INT64, False),
    ("title", 2, _F.TYPE_STRING, False),
    ("genres", 3, _F.TYPE_STRING, True),
    ("release_year", 4, _F.TYPE_INT32, False),
    ("is_active", 5, _F.TYPE_BOOL, False),
    ("catalogue_version", 6, _F.TYPE_UINT64, False),
    ("updated_at_ms", 7, _F.TYPE_INT64, False),
)


def _build() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="weir/catalogue/v1/item.proto", package=PACKAGE, syntax="proto3")
    entry = file.message_type.add(name="ItemCatalogueEntry")
    for name, number, kind, repeated in ENTRY_FIELDS:
        entry.field.add(name=name, number=number, type=kind, label=_F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL)
    page = file.message_type.add(name="ItemCataloguePage")
    page.field.add(name="items", number=1, type=_F.TYPE_MESSAGE, type_name=f".{PACKAGE}.ItemCatalogueEntry", label=_F.LABEL_REPEATED)
    page.field.add(name="next_after", number=2, type=_F.TYPE_INT64, label=_F.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{n}")) for n in ("ItemCatalogueEntry", "ItemCataloguePage")]
    return found[0], found[1]


ItemCatalogueEntry, ItemCataloguePage = _build()
