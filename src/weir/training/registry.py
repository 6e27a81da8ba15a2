"""MLflow on SQLite and files below WEIR_HOME: runs, metrics, registered versions, the alias.

Keep: MLflow is imported only here and late (it takes seconds), and phones nobody.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from weir.errors import ContractViolation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from weir.training.model import Settings, Trained

MODEL_NAME: Final = "weir-als"
EXPERIMENT: Final = "weir-recommendations"
ALIAS: Final = "champion"


class Registry:
    """The registry of one WEIR_HOME."""

    def __init__(self, home: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        from mlflow.tracking import MlflowClient

        folder = home.resolve() / "mlflow"
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._folder = folder
        self._client: MlflowClient = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def log(self, trained: Trained, settings: Settings) -> str:
        """Log one training as a finished run; returns the run id."""
        client = self._client
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, (self._folder / "artifacts").as_uri())
        run = client.create_run(experiment).info.run_id
        for name, value in asdict(settings).items():
            client.log_param(run, name, value)
        metrics: Mapping[str, float] = {
            "recall": trained.model.recall, "ndcg": trained.model.ndcg, "popularity_recall": trained.popularity.recall,
            "popularity_ndcg": trained.popularity.ndcg, "users_judged": trained.model.users, "events": trained.events,
        }
        for name, value in metrics.items():
            client.log_metric(run, name, value)
        return str(run)

    def register(self, run: str, export: Path) -> None:
        """Copy the exported files to the run's artifacts and end it."""
        self._client.log_artifacts(run, str(export), "model")
        self._client.set_terminated(run)

    def create_version(self, run: str, version: str) -> str:
        """Register the run as a version tagged with our name for it; returns MLflow's number."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(MODEL_NAME)
        except MlflowException:
            self._client.create_registered_model(MODEL_NAME)
        source = f"{self._client.get_run(run).info.artifact_uri}/model"
        return str(self._client.create_model_version(MODEL_NAME, source, run, tags={"weir_version": version}).version)

    def set_alias(self, mlflow_version: str) -> None:
        """Point the alias at a version; an empty one takes the alias away.

        Raises:
            ContractViolation: the registry has no such version.

        """
        from mlflow.exceptions import MlflowException

        try:
            if mlflow_version:
                self._client.set_registered_model_alias(MODEL_NAME, ALIAS, mlflow_version)
            else:
                self._client.delete_registered_model_alias(MODEL_NAME, ALIAS)
        except MlflowException as error:
            if not mlflow_version:
                return  # no registered model yet, so no alias either
            raise ContractViolation(f"MLflow has no version {mlflow_version} of {MODEL_NAME}", hint="train again") from error

    def alias(self) -> str:
        """Return MLflow's number of the champion, or ""."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_model_version_by_alias(MODEL_NAME, ALIAS).version)
        except MlflowException:
            return ""

    def forget(self, version: str) -> None:
        """Delete MLflow's versions tagged with our name for them, their runs, and the runs' artifacts; rows of deleted runs stay until `mlflow gc`."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            found = [v for v in self._client.search_model_versions(f"name='{MODEL_NAME}'") if v.tags.get("weir_version") == version]
        except MlflowException:
            return  # nothing was ever registered
        for registered in found:
            run = self._client.get_run(str(registered.run_id)).info
            self._client.delete_model_version(MODEL_NAME, registered.version)
            get_artifact_repository(run.artifact_uri).delete_artifacts()
            self._client.delete_run(run.run_id)
