"""A service that answers while a part of it has stopped is shown as degraded, with why, and is left alone."""
from weir.cli import watching
from weir.stack import watch
from weir.stack.watch import ServiceState, Watcher, degraded


def test_a_service_whose_lane_stopped_is_degraded_and_says_what_to_do():
    state, why = degraded("ingest", "ready", ("landing.user_events stopped: 3 rows are missing",))
    assert state == "degraded"
    assert "landing.user_events stopped: 3 rows are missing" in why
    assert "./weir logs ingest" in why
    row = ServiceState("ingest", state, 7, "http://127.0.0.1:1", why)
    assert watching.trouble_lines([row, ServiceState("api", "ready", 8, "")]) == [f" ingest is degraded: {why}"]


def test_a_service_that_does_not_answer_is_not_called_degraded():
    assert degraded("ingest", "unhealthy", ("x",)) == ("unhealthy", "")
    assert degraded("ingest", "ready", ()) == ("ready", "")


def test_a_degraded_service_is_not_restarted_and_counts_as_one_that_was_ready():
    watcher = Watcher()
    for at in range(3 * watch.MISSES):
        assert watcher.due([ServiceState("ingest", "degraded", 7, "", "x")], float(at)) == []
    acted = [watcher.due([ServiceState("ingest", "unhealthy", 7, "")], 100.0) for _ in range(watch.MISSES)]
    assert acted == [[]] * (watch.MISSES - 1) + [[("ingest", "restart")]]
