"""What `up` does once a service listens is patient with a server that is still recovering."""
import pytest

from weir.errors import Terminal, Unavailable
from weir.stack import lifecycle


def test_a_server_that_still_recovers_is_asked_again():
    answers = iter([Unavailable("starting up"), Unavailable("starting up"), None])

    def act():
        answer = next(answers)
        if answer:
            raise answer

    lifecycle.patiently(act)
    assert next(answers, "done") == "done"


def test_what_will_fail_again_fails_at_once():
    calls = []

    def act():
        calls.append(1)
        raise Terminal("wrong")

    with pytest.raises(Terminal):
        lifecycle.patiently(act)
    assert len(calls) == 1
