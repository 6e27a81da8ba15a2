"""MLflow's own registry: what is forgotten is gone, what is not stays."""
from types import SimpleNamespace

from weir.training.model import Settings
from weir.training.registry import Registry

SCORE = SimpleNamespace(recall=0.1, ndcg=0.1, users=1)


def test_a_forgotten_version_loses_its_run_and_artifacts_and_the_others_keep_theirs(tmp_path):
    registry = Registry(tmp_path)
    registry.forget("v0")  # nothing was ever registered
    export = tmp_path / "export"
    export.mkdir()
    (export / "factors.npz").write_bytes(b"x" * 1000)
    for version in ("v1", "v2"):
        run = registry.log(SimpleNamespace(model=SCORE, popularity=SCORE, events=1), Settings())
        registry.create_version(run, version)
        registry.register(run, export)
    registry.set_alias("2")
    registry.forget("v1")
    registry.forget("v1")
    assert len(list((tmp_path / "mlflow" / "artifacts").rglob("factors.npz"))) == 1
    assert [v.tags["weir_version"] for v in registry._client.search_model_versions("name='weir-als'")] == ["v2"]
    experiment = registry._client.get_experiment_by_name("weir-recommendations").experiment_id
    assert len(registry._client.search_runs([experiment])) == 1
    assert registry.alias() == "2"
