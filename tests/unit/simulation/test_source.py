"""What PostgreSQL refuses is told as a server that did not do it now, without the values that its detail holds."""
import psycopg
import pytest

from weir.errors import Unavailable
from weir.simulation.source import answering


def test_a_servers_refusal_and_a_lost_connection_are_transient_and_name_what_was_not_done():
    for error in (psycopg.errors.UniqueViolation("duplicate key value violates unique constraint\nDETAIL: Key (zip)=(12345) already exists."), psycopg.OperationalError()):
        with pytest.raises(Unavailable, match=r"PostgreSQL did not take the users: (duplicate key|OperationalError)") as told, answering("take the users"):
            raise error
        assert "12345" not in str(told.value)


def test_any_other_error_passes():
    with pytest.raises(KeyError), answering("take the users"):
        raise KeyError
