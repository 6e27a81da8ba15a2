"""The limits on start and memory, on a stack of the benchmark's own: the one test that judges time, so only in the long suite."""
import json

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.long]


def test_first_and_second_start_and_the_memory_at_rest_are_within_their_limits(stack):
    stack.weir("down", check=False)  # two stacks at once would measure each other
    done = stack.weir("bench", "startup", "--json", timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert document["past_limits"] == []
    assert document["first_recommendation_s"] > 0
