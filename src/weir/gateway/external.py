"""External data: the parts of a multipart/form-data request become temporary tables of that query alone.

In: a body of parts, and `<name>_format`, `<name>_types` or `<name>_structure` in the URL. Out: the statements that make each table, and the
form's plain fields (such as `query`). Keep: a part goes from file to file, never whole through memory. Source: ClickHouse's
documentation, engines/table-engines/special/external-data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from python_multipart.multipart import MultipartParser, parse_options_header

from weir.gateway import statements
from weir.gateway.failures import failure
from weir.gateway.running import name as quoted

FIELD_MAX_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


@dataclass
class Parts:
    """`files`: name to the file of its data. `fields`: the parts without a file name."""

    files: dict[str, Path] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


class _Reader:
    """Callbacks of the parser: where the bytes of the part under way go."""

    def __init__(self, new: Callable[[], IO[bytes]]) -> None:
        self._new, self.parts = new, Parts()
        self._header = self._value = b""
        self._name, self._file, self._text = "", None, bytearray()  # type: tuple[str, IO[bytes] | None, bytearray]

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            self._name = options.get(b"name", b"").decode()
            if b"filename" in options:
                self._file = self._new()
                self.parts.files[self._name] = Path(self._file.name)
        self._header = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif len(self._text) + end - start > FIELD_MAX_BYTES:
            raise failure(36, "BAD_ARGUMENTS", f"The field {self._name} is longer than {FIELD_MAX_BYTES} bytes", 400)
        else:
            self._text += data[start:end]

    def part_end(self) -> None:
        if self._file is not None:
            self._file.close()
        elif self._name:
            self.parts.fields[self._name] = self._text.decode()
        self._name, self._file, self._text = "", None, bytearray()


def split(body: Path, content_type: str, spool: Path, made: list[Path]) -> Parts:
    """Return the parts of the multipart body in the file `body`; their files go to `spool`, and into `made`.

    Raises:
        Failure: the body is not of parts.
    """

    def new() -> IO[bytes]:
        file = tempfile.NamedTemporaryFile(dir=spool, suffix=".data", delete=False)  # noqa: SIM115 - closed at the part's end
        made.append(Path(file.name))
        return file

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    reader = _Reader(new)
    names = {"on_header_field": "header_field", "on_header_value": "header_value", "on_header_end": "header_end", "on_part_data": "part_data", "on_part_end": "part_end"}
    callbacks: Any = {event: getattr(reader, method) for event, method in names.items()}
    try:
        parser = MultipartParser(boundary, callbacks)
        with body.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                parser.write(piece)
        parser.finalize()
    except (ValueError, UnicodeDecodeError) as error:
        raise failure(36, "BAD_ARGUMENTS", f"The body is not multipart/form-data: {error}", 400) from error
    return reader.parts


def tables(parts: Parts, url: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return, by table, the statements that make and fill it.

    Raises:
        Failure: a part has neither structure nor types.
    """
    made: dict[str, tuple[str, ...]] = {}
    for name, path in parts.files.items():
        structure = url.get(f"{name}_structure", "")
        types = url.get(f"{name}_types", "")
        if types:
            structure = ", ".join(f"_{i} {t}" for i, t in enumerate(_top_level(types), 1))
        if not structure:
            raise failure(36, "BAD_ARGUMENTS", f"Neither {name}_structure nor {name}_types is given", 400)
        form = url.get(f"{name}_format", "TabSeparated")
        if not form.isidentifier() or statements.refusal(structure.encode()):
            raise failure(36, "BAD_ARGUMENTS", f"{name}_format or {name}_structure is not what it must be", 400)
        made[name] = (
            f"CREATE TEMPORARY TABLE {quoted(name)} ({structure})",
            f"INSERT INTO {quoted(name)} FROM INFILE '{path}' COMPRESSION 'none' FORMAT {form}",
        )
    return made


def input_table(name: str, structure: bytes, form: str, path: Path) -> dict[str, tuple[str, ...]]:
    """Return the statements that make and fill the table of `input(structure)`; `structure` is the literal as it stood.

    Raises:
        Failure: it is no structure.
    """
    text = structure[1:-1].decode("utf-8", "replace").replace("\\'", "'").replace("''", "'") if structure[:1] == b"'" else ""
    if not text.strip() or statements.refusal(text.encode()) or not form.isidentifier():
        raise failure(36, "BAD_ARGUMENTS", "The structure of input() must be a string in single quotes, such as 'a Int64, s String'", 400)
    return {name: (f"CREATE TEMPORARY TABLE {quoted(name)} ({text})", f"INSERT INTO {quoted(name)} FROM INFILE '{path}' COMPRESSION 'none' FORMAT {form}")}


def own_parameters(parts: Parts) -> frozenset[str]:
    """Return the URL's parameters that describe the parts, and so are no settings."""
    return frozenset(f"{name}_{what}" for name in parts.files for what in ("format", "types", "structure"))


def _top_level(types: str) -> list[str]:
    """Split a list of types at the commas that are in no brackets."""
    depth, at, found = 0, 0, []
    for token in statements.tokens(types.encode()):
        depth += {b"(": 1, b")": -1}.get(token.value, 0)
        if token.value == b"," and depth == 0:
            found.append(types.encode()[at : token.start].decode())
            at = token.end
    return [*found, types.encode()[at:].decode()]
