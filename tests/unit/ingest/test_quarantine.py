import json

import pytest

from weir.errors import Terminal
from weir.ingest import replay
from weir.ingest.quarantine import Action, Entry, Place, State, after, allow, patched

PLACE = Place("user-events", 3, 17)
ENTRY = Entry(PLACE, "2026-11-24 12:00:00.000", "out_of_range", b'{"country":"de","user_id":7}', "")


def rows(*actions):
    return after(ENTRY, [Action(a, "ann", "why", value=b"v", low=40, to_offset=41) for a in actions])


def test_a_place_is_read_as_it_is_written():
    assert Place.parse(str(PLACE)) == PLACE
    assert Place.parse("shop.public.users/0/9007199254740993").offset == 9007199254740993


@pytest.mark.parametrize("text", ["", "user-events", "user-events/3", "user-events/x/1", "a b/0/1", "user-events/3/-1", "user-events/3/1/", "'; DROP/0/1"])
def test_what_is_no_place_is_refused_in_a_sentence(text):
    with pytest.raises(Terminal, match="topic/partition/offset"):
        Place.parse(text)


@pytest.mark.parametrize(("actions", "state"), [
    ((), State.OPEN), (("fix",), State.FIXED), (("fix", "replay_requested"), State.REPLAYING), (("replay_requested", "replayed"), State.REPLAYED),
    (("discard",), State.DISCARDED), (("fix", "discard"), State.DISCARDED),
])
def test_the_audit_rows_say_the_state(actions, state):
    assert rows(*actions).state == state
    assert [a.action for a in rows(*actions).actions] == list(actions)


def test_the_first_request_bounds_every_later_search():
    twice = after(ENTRY, [Action("replay_requested", "a", "", low=40), Action("replay_requested", "b", "", low=90)])
    assert twice.low == 40


def test_a_fix_is_what_the_replay_sends_and_the_raw_stays():
    found = rows("fix", "replay_requested", "replayed")
    assert (found.fixed, found.raw, found.replayed_as) == (b"v", ENTRY.raw, "user-events/3/41")


@pytest.mark.parametrize(("actions", "verb"), [
    (("replay_requested", "replayed"), "replay"), (("replay_requested", "replayed"), "fix"), (("replay_requested", "replayed"), "discard"),
    (("discard",), "replay"), (("discard",), "fix"), (("replay_requested",), "discard"), (("replay_requested",), "fix"),
])
def test_what_the_state_does_not_allow_is_refused_and_says_the_state(actions, verb):
    entry = rows(*actions)
    with pytest.raises(Terminal, match=f"is {entry.state}"):
        allow(entry, verb)


@pytest.mark.parametrize(("actions", "verb"), [((), "fix"), ((), "replay"), ((), "discard"), (("fix",), "fix"), (("fix",), "replay"), (("replay_requested",), "replay")])
def test_what_the_state_allows_goes_on(actions, verb):
    assert allow(rows(*actions), verb) is None


def test_fields_are_set_as_json_or_as_text_and_the_rest_stays():
    found = json.loads(patched(ENTRY.raw, ["country=DE", "rating=4.5", "note=a=b", 'tags=["x"]']))
    assert found == {"country": "DE", "user_id": 7, "rating": 4.5, "note": "a=b", "tags": ["x"]}


@pytest.mark.parametrize(("raw", "setting"), [(b"{nonsense", "a=1"), (b"[1]", "a=1"), (b"{}", "a"), (b"{}", "=1"), (b"\xff", "a=1")])
def test_what_cannot_be_set_is_refused(raw, setting):
    with pytest.raises(Terminal):
        patched(raw, [setting])


@pytest.mark.parametrize(("change", "refused"), [({}, ""), ({"nosuch": 3}, ""), ({"user_id": -1}, "out_of_range"), ({"schema_version": 99}, "unknown_version"), ({"occurred_at": 1}, "clock")])
def test_a_correction_is_held_to_todays_contract_before_it_is_sent(change, refused):
    now_ms = 1_790_000_000_000
    good = {"schema_version": 1, "event_id": "e1", "user_id": 7, "item_id": 3, "event_type": "view", "session_id": "s", "country": "DE", "occurred_at": now_ms}
    assert replay.refusal(Place("user-events", 3, 17), None, json.dumps({**good, **change}).encode(), now_ms) == refused


def test_a_change_of_a_table_that_was_added_is_judged_as_one_of_the_shops():
    change = json.dumps({"payload": {"op": "c", "before": None, "after": {"id": 1}, "source": {"lsn": 5, "txId": 1, "ts_ms": 1}}}).encode()
    at = Place("shop.public.orders", 0, 1)
    assert replay.refusal(at, None, b"{", 1_790_000_000_000) == "malformed"
    assert replay.refusal(at, b'{"payload":{"id":1}}', change, 1_790_000_000_000) == replay.refusal(Place("shop.public.users", 0, 1), b'{"payload":{"id":1}}', change, 1_790_000_000_000)
