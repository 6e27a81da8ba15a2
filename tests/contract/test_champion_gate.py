"""What one training does to MLflow's registry and to the pointer that serving reads: only a model that beats popularity becomes champion."""
from dataclasses import replace

import numpy as np
import pytest

from weir.contracts import model as m
from weir.errors import ContractViolation
from weir.telemetry import setup
from weir.training import __main__ as training
from weir.training import champion, source
from weir.training.model import Interactions, Settings, train
from weir.training.registry import MODEL_NAME, Registry

SMALL = Settings(factors=4, iterations=3)


def _interactions():
    """Sixty users, of whom every other one likes the second twenty items."""
    rng = np.random.default_rng(1)
    rows = [(user, int(item) + 1, place * 1000 + user) for user in range(60) for place, item in enumerate(rng.permutation(20)[:12] + 20 * (user % 2))]
    users, items, at = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(users, items, np.ones(len(users), np.float32), at)


class Client:
    def close(self):
        pass


@pytest.fixture(scope="module")
def winner():
    found = train(_interactions(), SMALL)
    assert found.model.ndcg > found.popularity.ndcg
    assert found.model.recall >= found.popularity.recall
    return found


@pytest.fixture
def trains(monkeypatch, tmp_path):
    """Returns a function that has one training come out as it is told; what ClickHouse would give is not looked at."""
    monkeypatch.setattr(source, "connect", lambda _url: Client())
    monkeypatch.setattr(source, "read", lambda _client, _sql: None)

    def one(trained, seconds):
        monkeypatch.setattr(training, "train", lambda *_: trained)
        monkeypatch.setattr(training.time, "time", lambda: 1_800_000_000 + seconds)  # versions are named after the second
        return training.train_and_register(tmp_path, "", SMALL, setup("test", otlp_url=""))

    return one


def _loser(winner):
    return replace(winner, model=winner.popularity, popularity=winner.model)


def test_a_model_that_loses_to_popularity_is_registered_and_does_not_serve(trains, winner, tmp_path):
    found = trains(_loser(winner), 0)
    assert (found["champion"], found["promoted"]) == ("popularity", False)
    assert m.read_pointer(tmp_path) == m.Pointer()
    registry = Registry(tmp_path)
    assert registry.alias() == ""
    version = registry._client.get_model_version(MODEL_NAME, found["mlflow_version"])
    assert version.tags["weir_version"] == found["version"]
    metrics = registry._client.get_run(version.run_id).data.metrics
    assert metrics["ndcg"] == found["ndcg"] < found["popularity_ndcg"] == metrics["popularity_ndcg"]


def test_a_loser_cannot_be_promoted_by_hand_and_what_served_goes_on(trains, winner, tmp_path):
    first, second = trains(winner, 0), trains(_loser(winner), 10)
    with pytest.raises(ContractViolation, match="did not beat popularity"):
        champion.promote(tmp_path, Registry(tmp_path), second["version"])
    assert m.read_pointer(tmp_path).version == first["version"]
    assert Registry(tmp_path).alias() == first["mlflow_version"]


def test_a_model_that_beats_popularity_serves_and_a_later_loser_leaves_it_there(trains, winner, tmp_path):
    first, second = trains(winner, 0), trains(_loser(winner), 10)
    assert (first["champion"], first["promoted"]) == (first["version"], True)
    assert (second["champion"], second["promoted"]) == (first["version"], False)
    assert m.read_pointer(tmp_path).version == first["version"] != second["version"]
    assert Registry(tmp_path).alias() == first["mlflow_version"] != second["mlflow_version"]
    manifest, factors = m.read_model(tmp_path, first["version"])
    assert manifest.ndcg > manifest.popularity_ndcg
    assert (factors.item_factors == winner.factors.item_factors).all()


def test_a_later_winner_takes_the_place_and_the_one_before_can_be_rolled_back_to(trains, winner, tmp_path):
    first, second = trains(winner, 0), trains(winner, 10)
    assert m.read_pointer(tmp_path) == m.Pointer(second["version"], (first["version"], ""))
    assert Registry(tmp_path).alias() == second["mlflow_version"]
