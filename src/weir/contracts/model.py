"""The exported model: what training writes and serving reads, so that neither imports the other nor MLflow.

In: WEIR_HOME/models. Out: `<version>/factors.npz` and `<version>/manifest.json`, and the pointer file `champion`.
Keep: a version's folder is complete before it has its name; the pointer is one JSON file replaced by rename, so a reader sees the old
champion or the new one, whole. An absent pointer or version "" means that popularity serves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from weir.errors import ContractViolation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

POINTER: Final = "champion"
POPULARITY: Final = "popularity"  # the version that the API tells while it serves by no model
HISTORY_MAX: Final = 5  # earlier champions to which one may roll back: each keeps its export
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class WhyPopularity(StrEnum):
    """Why popularity serves, as the files tell it."""

    NOTHING_TRAINED = "nothing_trained"
    NOT_BEATEN = "not_beaten"
    ROLLED_BACK = "rolled_back"
    UNREADABLE = "unreadable"  # a champion is named and its export, or the pointer, cannot be read


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version serves ("" = popularity) and which did before, newest first."""

    version: str = ""
    previous: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Facts about one exported model. Metrics are of the time split; the exported factors are refitted on all events."""

    version: str
    trained_at_ms: int
    newest_event_at_ms: int
    events: int
    factors: int
    k: int
    recall: float
    ndcg: float
    popularity_recall: float
    popularity_ndcg: float
    mlflow_version: str = ""

    @property
    def beats_popularity(self) -> bool:
        """Return whether this may be champion: better NDCG and no worse recall. Judged on nobody, all four are 0 and it may not."""
        return self.ndcg > self.popularity_ndcg and self.recall >= self.popularity_recall


@dataclass(frozen=True, slots=True)
class Factors:
    """ALS factors and what each user has seen. Seen items of user row u: seen_items[seen_starts[u]:seen_starts[u + 1]] (item ids)."""

    user_ids: Ints  # ascending, (users,)
    item_ids: Ints  # ascending, (items,)
    user_factors: Floats  # (users, factors)
    item_factors: Floats  # (items, factors)
    seen_starts: Ints  # (users + 1,)
    seen_items: Ints

    def user_row(self, user_id: int) -> int:
        """Return the row of a user, or -1."""
        at = int(np.searchsorted(self.user_ids, user_id))
        return at if at < len(self.user_ids) and int(self.user_ids[at]) == user_id else -1


def models_folder(home: Path) -> Path:
    """Return the folder of exported models below WEIR_HOME."""
    return home / "models"


def read_pointer(home: Path) -> Pointer:
    """Return the pointer; popularity when there is none.

    Raises:
        ContractViolation: the file is not a pointer.

    """
    try:
        found = json.loads((models_folder(home) / POINTER).read_text())
        pointer = Pointer(str(found["version"]), tuple(str(v) for v in found["previous"]))
    except FileNotFoundError:
        return Pointer()
    except (ValueError, KeyError, TypeError) as error:
        raise ContractViolation("the champion pointer is not readable", hint="delete models/champion in WEIR_HOME: popularity serves until ./weir run python -m weir.training promote VERSION") from error
    if pointer.version:
        check_version(pointer.version)
    return pointer


def why_popularity(home: Path) -> WhyPopularity | None:
    """Return why no champion is named; None: one is, or the files do not tell.

    Only a rollback writes a pointer that names none. Without a pointer nothing was ever promoted: that no model has beaten popularity
    is known when each export's own record says so (a training that was killed before it promoted leaves one that says otherwise).

    Raises:
        ContractViolation: the pointer is not readable.

    """
    stood = (models_folder(home) / POINTER).exists()
    if read_pointer(home).version:
        return None
    if stood:
        return WhyPopularity.ROLLED_BACK
    exports = list(models_folder(home).glob("*/manifest.json"))
    if not exports:
        return WhyPopularity.NOTHING_TRAINED
    try:
        beaten = any(ModelManifest(**json.loads(path.read_text())).beats_popularity for path in exports)
    except (OSError, ValueError, TypeError):
        return None
    return None if beaten else WhyPopularity.NOT_BEATEN


def write_pointer(home: Path, pointer: Pointer) -> None:
    """Replace the pointer by rename, after its bytes are on disk."""
    folder = models_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{POINTER}.{os.getpid()}"
    with fresh.open("w") as file:
        json.dump({"version": pointer.version, "previous": list(pointer.previous[:HISTORY_MAX])}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / POINTER)


def check_version(version: str) -> str:
    """Return `version` when it may name a folder.

    Raises:
        ContractViolation: it may not (it could leave the models folder).

    """
    if not _VERSION.fullmatch(version):
        raise ContractViolation("a model version's name is not allowed", hint="use letters, digits, dot, dash, underscore")
    return version


def write_model(home: Path, manifest: ModelManifest, factors: Factors) -> Path:
    """Write one version's folder whole, then give it its name; returns the folder."""
    folder = models_folder(home) / check_version(manifest.version)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    arrays: Mapping[str, npt.NDArray[np.generic]] = {name: getattr(factors, name) for name in Factors.__dataclass_fields__}
    np.savez(fresh / "factors.npz", **arrays)  # type: ignore[arg-type]  # (stub) savez's stub reads **kwargs as allow_pickle
    (fresh / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1))
    for path in fresh.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fresh.replace(folder)
    return folder


def read_model(home: Path, version: str) -> tuple[ModelManifest, Factors]:
    """Load one exported version.

    Raises:
        ContractViolation: it is not there or not whole.

    """
    folder = models_folder(home) / check_version(version)
    try:
        manifest = ModelManifest(**json.loads((folder / "manifest.json").read_text()))
        with np.load(folder / "factors.npz", allow_pickle=False) as arrays:
            return manifest, Factors(**{name: arrays[name] for name in Factors.__dataclass_fields__})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ContractViolation(f"the exported model {version} cannot be read", hint="./weir run python -m weir.training train makes another, and rollback in place of train returns to the one before") from error
