"""Users and items into the shop's PostgreSQL.

In: the data set. Out: public.users and public.items. Keep: a repeat changes no row, so that it makes no change event; rows that someone
changed since are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weir.errors import Unavailable
from weir.simulation import dataset, derive

USER_COLUMNS = ("user_id", "age", "gender", "occupation", "zip_code", "country", "preferred_genre")
ITEM_COLUMNS = ("item_id", "title", "release_year", "genres")


def _copy_new(cursor: Any, table: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> int:
    names = ", ".join(columns)
    cursor.execute(f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names} FROM public.{table} WHERE false")
    with cursor.copy(f"COPY incoming ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    cursor.execute(f"INSERT INTO public.{table} ({names}) SELECT {names} FROM incoming ON CONFLICT ({columns[0]}) DO NOTHING")
    return int(cursor.rowcount)


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Have psycopg's errors mean that PostgreSQL did not do `what` now. A server's message is told without its detail, which holds values.

    Raises:
        Unavailable: instead of any psycopg.Error.
    """
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or (str(error).splitlines() or [""])[0] or type(error).__name__
        raise Unavailable(f"PostgreSQL did not {what}: {said}", hint="./weir logs postgres shows why; running it again is harmless") from error


def seed_postgres(dsn: str, folder: Path | None = None, seed: int = derive.DEFAULT_SEED) -> dict[str, int]:
    """Copy what is missing; return the rows added by table.

    Raises:
        Unavailable: PostgreSQL does not answer, or refuses.
    """
    import psycopg

    data = dataset.read(folder or dataset.directory())
    users: list[tuple[object, ...]] = [tuple(getattr(u, c) for c in USER_COLUMNS) for u in derive.users(data, seed)]
    items: list[tuple[object, ...]] = [(i.item_id, i.title, i.release_year, list(i.genres)) for i in derive.items(data)]
    added = {}
    with answering("take the users and items"), psycopg.connect(dsn, connect_timeout=5) as connection:
        for table, columns, rows in (("users", USER_COLUMNS, users), ("items", ITEM_COLUMNS, items)):
            with connection.transaction(), connection.cursor() as cursor:
                added[table] = _copy_new(cursor, table, columns, rows)
    return added
