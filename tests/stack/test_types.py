"""Every PostgreSQL type through the real PostgreSQL and Debezium: their records are those that tests/unit/contracts/test_source_types.py reads value by value."""
import json

import pytest
from tests.types_page import RECORDED, captured

from weir.stack import settings

pytestmark = pytest.mark.stack


def test_debezium_sends_every_type_as_recorded(running):
    configured = settings.load(running.env)
    found = [{"key": json.loads(k), "after": json.loads(v)["after"], "op": json.loads(v)["op"]} for k, v in captured(configured.endpoints, configured.home)]
    assert found == json.loads(RECORDED.read_text())
