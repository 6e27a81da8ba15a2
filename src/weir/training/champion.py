"""Promotion and rollback: MLflow's alias and the pointer that serving reads move together.

In: WEIR_HOME, a version. Out: the new pointer. Keep: the pointer's rename is the moment of change; the alias follows it, and is made to
agree again at the start of each command, so a kill between both is healed (docs/decisions/0006-model-registry-and-pointer.md).
"""

from __future__ import annotations

import fcntl
import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from weir.contracts.model import Pointer, models_folder, read_model, read_pointer, write_pointer
from weir.errors import ContractViolation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


OTHERS: Final = 5  # versions besides the champion and those before it: to look at why one lost


class Forgetful(Protocol):
    """The registry, as pruning needs it."""

    def forget(self, version: str) -> None:
        """Delete what is held of one of our versions; harmless when nothing is."""
        ...


class Alias(Protocol):
    """The registry's alias, as promotion needs it."""

    def set_alias(self, mlflow_version: str) -> None:
        """Point the alias at a version; "" takes it away."""
        ...

    def alias(self) -> str:
        """Return the version under the alias, or ""."""
        ...


def promoted(pointer: Pointer, version: str) -> Pointer:
    """Return the pointer after a promotion; promoting the champion changes nothing."""
    if version == pointer.version:
        return pointer
    return Pointer(version, (pointer.version, *pointer.previous))


def rolled_back(pointer: Pointer) -> Pointer:
    """Return the pointer after a rollback: to the champion before, or to popularity.

    Raises:
        ContractViolation: there was none before.

    """
    if not pointer.previous:
        raise ContractViolation("there is no earlier champion to roll back to", hint="train a model first")
    return Pointer(pointer.previous[0], pointer.previous[1:])


def promote(home: Path, alias: Alias, version: str) -> Pointer:
    """Make `version` the champion; it must be readable whole and have beaten popularity when it was trained.

    Raises:
        ContractViolation: it is not, or has not.

    """
    manifest, _ = read_model(home, version)
    if not manifest.beats_popularity:
        raise ContractViolation(
            f"{version} did not beat popularity: NDCG@{manifest.k} {manifest.ndcg:.4f} against {manifest.popularity_ndcg:.4f}, "
            f"recall@{manifest.k} {manifest.recall:.4f} against {manifest.popularity_recall:.4f}",
            hint="promote a version that did, or train another: ./weir run python -m weir.training train",
        )
    with _alone(home):
        return _move(home, alias, promoted(read_pointer(home), version))


def rollback(home: Path, alias: Alias) -> Pointer:
    """Return to the champion before."""
    with _alone(home):
        after = rolled_back(read_pointer(home))
        if after.version:
            read_model(home, after.version)
        return _move(home, alias, after)


def reconcile(home: Path, alias: Alias) -> bool:
    """Make the alias agree with the pointer; True when it did not."""
    with _alone(home):
        wanted = _mlflow_version(home, read_pointer(home))
        if alias.alias() == wanted:
            return False
        alias.set_alias(wanted)
        return True


def spare(pointer: Pointer, versions: Sequence[tuple[int, str]], others: int = OTHERS) -> list[str]:
    """Return which versions may go, given (trained at, version): neither the champion nor one before it in the pointer, nor of the newest `others`. Pure."""
    kept = {pointer.version, *pointer.previous}
    return [version for _, version in sorted(versions, reverse=True) if version not in kept][others:]


def prune(home: Path, registry: Forgetful) -> list[str]:
    """Delete the exports that may go, and their versions, runs and artifacts in the registry; return which. The registry's go first, so that a kill is made good the next time."""
    with _alone(home):
        found = []
        for manifest in models_folder(home).glob("*/manifest.json"):  # a folder without one is still being written, under a name that begins with a dot
            try:
                found.append((int(json.loads(manifest.read_text())["trained_at_ms"]), manifest.parent.name))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        gone = spare(read_pointer(home), found)
        for version in gone:
            registry.forget(version)
            shutil.rmtree(models_folder(home) / version)
        return gone


def _move(home: Path, alias: Alias, pointer: Pointer) -> Pointer:
    write_pointer(home, pointer)
    alias.set_alias(_mlflow_version(home, pointer))
    return pointer


def _mlflow_version(home: Path, pointer: Pointer) -> str:
    return read_model(home, pointer.version)[0].mlflow_version if pointer.version else ""


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the models folder's lock: two promotions at once would lose one from the history."""
    folder = models_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
