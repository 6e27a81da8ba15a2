"""ClickHouse as a deploy needs it: questions, statements, and statements that take place together.

Keep: two threads a question, so that live ingest and readers go on; a server without POST /together (any but Weir's own gateway) gets the statements one by one, which is told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Final

import httpx

from weir.contracts import tls
from weir.contracts.clickhouse import TRANSIENT_CODES, parse
from weir.errors import NotBegun, Terminal, Unavailable

ANSWER_S: Final = 900.0  # a landing table of 10^8 rows is read whole
HOLD_S: Final = 45.0  # for the inserts that run to end: one of ingest has a time limit of 30 s
LOG_COMMENT: Final = "weir deploy"  # of each question and statement
_SETTINGS: Final = {"max_threads": "2", "output_format_json_quote_64bit_integers": "0", "join_use_nulls": "1", "log_comment": LOG_COMMENT}


class Warehouse:
    """One server, as its administrator."""

    def __init__(self, url: str, answer_s: float = ANSWER_S) -> None:
        """Connect at the first question. `answer_s`: how long an answer may take."""
        server = parse(url)
        self._client = httpx.Client(base_url=server.base_url, auth=server.auth, timeout=httpx.Timeout(answer_s, connect=min(3.0, answer_s)), verify=tls.context())

    def query(self, sql: str) -> list[list[Any]]:
        """Return the rows of a SELECT or DESCRIBE.

        Raises:
            Unavailable: no answer, or one that a later try may not meet. Terminal: it is refused.
        """
        text = self._post("/", f"{sql} FORMAT JSONCompactEachRow", _SETTINGS)
        return [json.loads(line) for line in text.splitlines()]

    def one(self, sql: str) -> list[Any]:
        """Return the first row."""
        return self.query(sql)[0]

    def run(self, sql: str) -> None:
        """Run a statement; raises as `query`."""
        self._post("/", sql, _SETTINGS)

    def holds(self) -> bool:
        """Say whether this server can hold inserts while statements run together: Weir's own gateway can.

        Raises:
            Unavailable: no answer.
        """
        try:
            answer = self._client.post("/together", content=b"[]")  # which ours refuses as a list of none
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        return answer.status_code != httpx.codes.NOT_FOUND

    def together(self, statements: Sequence[str]) -> float | None:
        """Run statements of definition while nothing writes; return for how many ms writes were held, None when this server can't and they ran one by one.

        Raises:
            NotBegun: writes that run did not end in time, or are held already. Unavailable: no answer. Terminal: one is refused. Those before it may be done, but for NotBegun.
        """
        try:
            answer = self._client.post("/together", params={"wait_s": str(HOLD_S)}, content=json.dumps(list(statements)))
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        if answer.status_code == httpx.codes.NOT_FOUND and "X-ClickHouse-Exception-Code" not in answer.headers:
            for statement in statements:
                self.run(statement)
            return None
        try:
            return float(json.loads(self._judged(answer))["held_ms"])
        except Unavailable as error:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                raise NotBegun(error.message, hint=error.hint, **error.facts) from error
            raise

    def _post(self, path: str, body: str, parameters: dict[str, str]) -> str:
        try:
            answer = self._client.post(path, params=parameters, content=body.encode())
        except httpx.HTTPError as error:
            raise Unavailable(f"ClickHouse does not answer: {error!r}", hint="./weir logs clickhouse shows why") from error
        return self._judged(answer)

    @staticmethod
    def _judged(answer: httpx.Response) -> str:
        if answer.is_success:
            return answer.text
        code = answer.headers.get("X-ClickHouse-Exception-Code", "")
        message = f"ClickHouse refused (HTTP {answer.status_code}): {shorten(answer.text, 400, placeholder=' …')}"
        later = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE or (code.isdecimal() and int(code) in TRANSIENT_CODES)
        raise (Unavailable if later else Terminal)(message, code=code)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
