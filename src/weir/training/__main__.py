"""`python -m weir.training train | promote VERSION | rollback [--json]`.

`train` reads ClickHouse, judges, logs, registers and exports; the version becomes champion only when it beats popularity.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from weir.contracts.model import ModelManifest, Pointer, read_pointer, write_model
from weir.errors import SettingsError, WeirError
from weir.telemetry import Telemetry, setup
from weir.training import source
from weir.training.champion import promote, prune, reconcile, rollback
from weir.training.model import Settings, train
from weir.training.registry import Registry

Document = dict[str, object]


def train_and_register(home: Path, clickhouse_url: str, settings: Settings, telemetry: Telemetry) -> Document:
    """Train one version; returns what `--json` prints."""
    started = time.monotonic()
    with telemetry.span("weir.training.train"):
        client = source.connect(clickhouse_url)
        try:
            events, matrix = source.read(client, source.events_sql()), source.read(client, source.MATRIX_SQL)
        finally:
            client.close()
        trained = train(events, settings, matrix)
        registry = Registry(home)
        reconcile(home, registry)
        run = registry.log(trained, settings)
        version = f"v{int(time.time())}-{run[:8]}"
        manifest = ModelManifest(
            version, int(time.time() * 1000), trained.newest_event_at_ms, trained.events, settings.factors, settings.k, trained.model.recall,
            trained.model.ndcg, trained.popularity.recall, trained.popularity.ndcg, registry.create_version(run, version),
        )
        registry.register(run, write_model(home, manifest, trained.factors))
        pointer = promote(home, registry, version) if manifest.beats_popularity else read_pointer(home)
        prune(home, registry)
    telemetry.gauge("weir.training.ndcg", trained.model.ndcg)
    telemetry.gauge("weir.training.popularity_ndcg", trained.popularity.ndcg)
    telemetry.record("weir.training.train_s", time.monotonic() - started)
    return {
        "version": version, "mlflow_version": manifest.mlflow_version, "champion": pointer.version or "popularity", "promoted": pointer.version == version,
        "k": settings.k, "recall": trained.model.recall, "ndcg": trained.model.ndcg, "popularity_recall": trained.popularity.recall,
        "popularity_ndcg": trained.popularity.ndcg, "users_judged": trained.model.users, "events": trained.events,
        "newest_event_at_ms": trained.newest_event_at_ms, "seconds": round(time.monotonic() - started, 2),
    }


def _moved(pointer: Pointer) -> Document:
    return {"champion": pointer.version or "popularity", "previous": list(pointer.previous)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m weir.training", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = Settings()
    one = commands.add_parser("train", help="train, judge, register; promote when better than popularity")
    one.add_argument("--factors", type=int, default=defaults.factors)
    one.add_argument("--iterations", type=int, default=defaults.iterations)
    two = commands.add_parser("promote", help="make a version the champion; one that did not beat popularity is refused")
    two.add_argument("version")
    three = commands.add_parser("rollback", help="return to the champion before")
    for command in (one, two, three):
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
    return parser


def _carry_out(arguments: argparse.Namespace, telemetry: Telemetry) -> Document:
    home = os.environ.get("WEIR_HOME")
    if not home:
        raise SettingsError("WEIR_HOME is not set", hint="run this through ./weir run", key="WEIR_HOME")
    if arguments.command == "train":
        url = os.environ.get("WEIR_CLICKHOUSE_URL")
        if not url:
            raise SettingsError("WEIR_CLICKHOUSE_URL is not set", hint="run this through ./weir run", key="WEIR_CLICKHOUSE_URL")
        return train_and_register(Path(home), url, Settings(factors=arguments.factors, iterations=arguments.iterations), telemetry)
    registry = Registry(Path(home))
    reconcile(Path(home), registry)
    return _moved(promote(Path(home), registry, arguments.version) if arguments.command == "promote" else rollback(Path(home), registry))


def main() -> None:
    """Parse the arguments, act, print."""
    arguments = _parser().parse_args()
    telemetry = setup("weir-training")
    try:
        found = _carry_out(arguments, telemetry)
    except WeirError as error:
        sys.exit(str(error))
    finally:
        telemetry.shutdown()
    lines = [json.dumps(found)] if arguments.json else [f"{name}: {value}" for name, value in found.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
