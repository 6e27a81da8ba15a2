"""The broker's storage."""
import uuid

from weir.connect import kafka


def test_a_cluster_id_never_looks_like_an_option():
    drawn = iter([uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(int=7)])
    assert kafka.cluster_id(lambda: next(drawn)) == "AAAAAAAAAAAAAAAAAAAABw"
