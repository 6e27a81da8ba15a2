"""Our bytes of the online store are Feast's bytes."""
import struct

import pytest

from weir.contracts import online
from weir.contracts.features import ValueType as T

CASES = [(T.INT64, -5), (T.INT64, 0), (T.INT64, 2**62), (T.DOUBLE, 1.5), (T.STRING, "Zoë"), (T.STRING, ""), (T.BOOL, False), (T.BOOL, True),
         (T.INT64_LIST, [1, -2, 300]), (T.INT64_LIST, []), (T.DOUBLE_LIST, [0.5, -1.0]), (T.STRING_LIST, ["a", "", "ü"])]
FIELD = {T.INT64: "int64_val", T.DOUBLE: "double_val", T.STRING: "string_val", T.BOOL: "bool_val",
         T.INT64_LIST: "int64_list_val", T.DOUBLE_LIST: "double_list_val", T.STRING_LIST: "string_list_val"}


@pytest.mark.parametrize(("kind", "value"), CASES)
def test_a_value_is_encoded_as_feast_encodes_it_and_comes_back(kind, value):
    from feast.protos.feast.types.Value_pb2 import Value

    if isinstance(value, list):
        message = Value()
        getattr(message, FIELD[kind]).val.extend(value)
        getattr(message, FIELD[kind]).SetInParent()
    else:
        message = Value(**{FIELD[kind]: value})
    assert online.encode_value(kind, value) == message.SerializeToString()
    assert online.decode_value(kind, message.SerializeToString()) == value


def test_keys_fields_and_times_are_feasts():
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from google.protobuf.timestamp_pb2 import Timestamp

    for name, value, message in (("user_id", 42, Value(int64_val=42)), ("country", "DE", Value(string_val="DE"))):
        key = _redis_key("weir", EntityKey(join_keys=[name], entity_values=[message]))
        assert online.entity_key(name, value) == key
        assert online.entity_value(name, key) == value
        assert online.entity_value("other", key) is None
    assert online.feature_field("user_profile", "age") == _mmh3("user_profile:age")
    for ms in (1_780_000_000_123, 1_780_000_000_000, 0):
        stamp = Timestamp()
        stamp.FromMilliseconds(ms)
        assert online.encode_timestamp(ms) == stamp.SerializeToString()
        assert online.decode_timestamp(stamp.SerializeToString()) == ms


def test_an_absent_value_is_none_and_a_cut_one_is_refused():
    assert online.decode_value(T.STRING, None) is None
    assert online.decode_value(T.STRING, b"") is None
    with pytest.raises(online.ContractViolation):
        online.decode_value(T.STRING, online.encode_value(T.STRING, "abc")[:-1])
    assert struct.pack("<I", 1) == online.entity_prefix("x")[:4]
