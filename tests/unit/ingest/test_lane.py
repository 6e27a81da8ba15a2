import pytest

from weir.errors import ContractViolation, Fenced, Transient
from weir.ingest.intent import CODE_VERSION, Intent, Range, decode, longest, of
from weir.ingest.lane import Lane, cut
from weir.ingest.record import Record
from weir.ingest.simulation.mutants import MUTANTS, applied
from weir.ingest.simulation.run import thin

DAY_MS = 86_400_000


def record(offset, partition=0, at_ms=0, value=b"a"):
    return Record("t", partition, offset, at_ms, None, value, "")


class Log:
    def __init__(self, offsets=None, records=()):
        self.offsets, self.records, self.commits, self.fails = offsets or {}, list(records), [], None

    def commit(self, entries):
        self.commits.append(dict(entries))
        if self.fails:
            raise self.fails

    def committed(self, partitions):
        return {p: self.offsets.get(p, (0, "")) for p in partitions}

    def read(self, ranges):
        return list(self.records)


class Sink:
    def __init__(self, *answers, landed=0):
        self.answers, self.tokens, self.landed = list(answers), [], landed

    def insert(self, table, columns, arrow_stream, token, query_id):
        self.tokens.append(token)
        if self.answers and (error := self.answers.pop(0)):
            raise error

    def execute(self, sql, **parameters):
        return str(self.landed)


def lane(log, sink, **more):
    made = Lane("landing.t", thin, log, sink, clock=iter(range(10_000)).__next__, wait=lambda _s: None, **more)
    made.assigned([("t", 0), ("t", 1)])
    return made


def change_hands(log, sink):
    """A rebalance served between two tries: the partitions come back, all but one."""
    made = lane(log, sink)

    def between():
        made.revoked()
        made.assigned([("t", 0)])

    made.between_tries = between
    return made


def test_a_batch_that_was_being_repeated_when_partitions_changed_hands_is_dropped():
    log, sink = Log(), Sink(Transient("busy"))
    made = change_hands(log, sink)
    with pytest.raises(Fenced):
        made.take([record(0, 0), record(0, 1)])
    commits = len(log.commits)
    made.finish()
    assert len(log.commits) == commits == 1, "an end was committed for partitions that are another's now"


def test_without_that_rule_the_end_is_committed_over_the_new_owners_progress():
    with applied(MUTANTS["rebalance_unseen"]):
        log, sink = Log(), Sink(Transient("busy"))
        made = change_hands(log, sink)
        made.take([record(0, 0), record(0, 1)])
        made.take([])
        made.finish()
    assert ("t", 1) in log.commits[-1]
    assert len(log.commits) == 2


def test_after_a_commit_without_an_answer_the_membership_commits_nothing_more():
    log, sink = Log(), Sink()
    made = lane(log, sink)
    made.take([record(0)])
    made.take([])
    made.take([record(1)])
    log.fails = Fenced("no answer")
    with pytest.raises(Fenced):
        made.take([record(2)])
    before = len(log.commits)
    made.revoked()
    assert len(log.commits) == before


def test_each_try_has_the_same_token():
    sink = Sink(Transient("busy"), Transient("busy"))
    made = lane(Log(), sink)
    made.take([record(0)])
    made.take([])
    assert len(sink.tokens) == 3
    assert len(set(sink.tokens)) == 1


def replaying(records, declared, landed):
    log = Log({("t", 0): (0, of(declared).encode())}, records)
    return Lane("landing.t", thin, log, Sink(landed=landed)), log


def test_a_replay_of_records_that_have_changed_is_refused():
    made, log = replaying([record(0), record(1, value=b"other")], [record(0), record(1)], 2)
    with pytest.raises(ContractViolation, match="have changed"):
        made.assigned([("t", 0)])
    assert log.commits == []


def test_a_token_that_outlived_its_part_stops_the_lane():
    made, log = replaying([record(0), record(1)], [record(0), record(1)], 1)
    with pytest.raises(ContractViolation, match="holds 1 of the 2 rows"):
        made.assigned([("t", 0)])
    assert log.commits == []


def test_a_batch_is_of_one_day_of_kafkas_timestamp():
    assert len(cut([record(0), record(1, at_ms=DAY_MS - 1), record(2, at_ms=DAY_MS)], 10)) == 2
    assert len(cut([record(0)] * 5, 3)) == 3


def test_an_intent_is_read_as_it_was_written():
    intent = of([record(3), record(9), record(0, 1, value=None)])
    assert decode(intent.encode()) == intent
    assert intent.ranges == (Range("t", 0, 3, 9, 2), Range("t", 1, 0, 0, 1))
    assert decode("") is None
    assert decode(None) is None


@pytest.mark.parametrize("other", [
    [record(4), record(9)], [record(3), record(9, value=b"b")], [record(3), record(9, at_ms=1)], [record(3), record(9, value=None)], [record(3)],
    [record(3, 1), record(9, 1)],
])
def test_a_token_is_of_offsets_timestamps_and_content(other):
    assert of(other).token != of([record(3), record(9)]).token


@pytest.mark.parametrize("text", [
    "not json", "{", "[]", "{}", '{"v":4}', '{"v":99,"r":{},"h":""}', '{"v":4,"r":{"t":[0,1,1]},"h":"x"}', '{"v":4,"r":{"t":[0,"1",1,0]},"h":"x"}',
    '{"v":4,"r":{"t":[0,5,-3,0]},"h":"x"}', '{"v":4,"r":{"t":[0,1,1,2]},"h":"x"}', '{"v":4,"r":{"t":[0,1,1,-1]},"h":"x"}', '{"v":4,"r":{"t":[0,-1,1,0]},"h":"x"}',
    '{"v":4,"r":{},"h":"x"}', '{"v":4,"r":{"t":[]},"h":"x"}', '{"v":4,"r":{"t":[0,1,1,0]},"h":7}', '{"v":4,"r":7,"h":"x"}', '{"v":4,"r":[["t",0,1,2,2]],"h":"x"}', "7",
])
def test_what_is_no_intent_of_ours_is_refused(text):
    with pytest.raises(ContractViolation):
        decode(text)


def test_a_version_that_is_not_ours_is_named():
    with pytest.raises(ContractViolation, match="version 99"):
        decode(Intent((), "x").encode().replace(f'"v":{CODE_VERSION}', '"v":99'))


def test_an_intent_over_a_hundred_partitions_is_shorter_than_what_a_broker_keeps_by_default():
    real = Intent(tuple(Range("user-events", p, 1_234_567_890 + p, 1_234_569_889 + p, 1990) for p in range(100)), "0" * 32)
    assert len(real.encode()) <= longest({"user-events": 100}) <= 4096
    assert longest({"user-events": 200}) > 4096
    both = Intent((Range("a", 0, 3, 9, 2), Range("a", 1, 0, 0, 1), Range("b", 0, 2**62, 2**62 + 5, 6)), "0" * 32)
    assert [decode(i.encode()) for i in (real, both)] == [real, both]
