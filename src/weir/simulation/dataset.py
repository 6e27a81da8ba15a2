"""MovieLens 100k as it lies on disk (RecBole's atomic files: tab-separated, one header line, UTF-8).

In: a folder. Out: frozen rows. Keep: nothing is derived here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from weir.errors import MissingTool, SettingsError

VARIABLE: Final = "WEIR_DATASET_DIR"
_HINT: Final = "run this through ./weir run, which fetches the data set once and sets the variable"


@dataclass(frozen=True, slots=True)
class RawUser:
    """One line of ml-100k.user."""

    user_id: int
    age: int
    gender: str
    occupation: str
    zip_code: str


@dataclass(frozen=True, slots=True)
class RawItem:
    """One line of ml-100k.item; `release_year` is None where the file has no number."""

    item_id: int
    title: str
    release_year: int | None
    genres: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawRating:
    """One line of ml-100k.inter; `at_s` is the original time, seconds since the epoch."""

    user_id: int
    item_id: int
    rating: float
    at_s: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three files. Ratings are sorted by (at_s, user_id, item_id)."""

    users: tuple[RawUser, ...]
    items: tuple[RawItem, ...]
    ratings: tuple[RawRating, ...]


def directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return the data set's folder.

    Raises:
        SettingsError: WEIR_DATASET_DIR is not set. MissingTool: the folder lacks a file.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not text:
        raise SettingsError(f"{VARIABLE} is not set", hint=_HINT, key=VARIABLE)
    for ending in ("user", "item", "inter"):
        if not (Path(text) / f"ml-100k.{ending}").is_file():
            raise MissingTool(f"{VARIABLE} has no file ml-100k.{ending}", hint=_HINT)
    return Path(text)


def _lines(path: Path, columns: int) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            parts = line.rstrip("\n").split("\t")
            yield parts + [""] * (columns - len(parts))


@lru_cache(1)
def read(folder: Path) -> Dataset:
    """Read the three files of `folder`; those read last are kept, since the demo asks for them at each of its steps."""
    users = (RawUser(int(u), int(a), g, o, z) for u, a, g, o, z in _lines(folder / "ml-100k.user", 5))
    items = (
        RawItem(int(i), title or f"item {i}", int(year) if year.isdigit() else None, tuple(genres.split()))
        for i, title, year, genres in _lines(folder / "ml-100k.item", 4)
    )
    ratings = (RawRating(int(u), int(i), float(r), int(float(t))) for u, i, r, t in _lines(folder / "ml-100k.inter", 4))
    return Dataset(
        tuple(sorted(users, key=lambda u: u.user_id)),
        tuple(sorted(items, key=lambda i: i.item_id)),
        tuple(sorted(ratings, key=lambda r: (r.at_s, r.user_id, r.item_id))),
    )
