"""What the engine's own access control cannot refuse here, refused by what its own parser says of a statement.

The engine knows every connection as one user, with the rights of the role that the gateway set on it, and refuses what the role has not. Left to
us is what no right of it covers: to set another role, to define a view that runs with all rights, to attach a folder, to read or write files of
this machine (INTO OUTFILE, the function `file`, a disk made in a statement), and code that hides in strings.

In: a statement's text. Out: nothing, or ACCESS_DENIED. Keep: a statement without one of `_SUSPECT`'s words cannot hold any of these, since keywords
are not quoted, and a quoted name can be written differently only with a backslash; one that has them is parsed by the engine, and what it
cannot parse, or its parser cannot show, is refused.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from weir.gateway import statements
from weir.gateway.failures import Failure, failure

_KEPT = 4096  # verdicts, by text
_KEPT_BYTES = 16 << 10  # of a text that is kept

# A table function that takes a table's structure as a string: a default in it is code.
_STRUCTURED = frozenset({"values", "sqlstandardvalues", "generaterandom", "null", "input", "format", "fuzzjson"})
_FILES = frozenset({"file", "python", "arrowstream", "eval", "executable"})
_SUSPECT = re.compile(
    rb"\\|role|definer|security|outfile|infile|attach|interpret_expressions|deduce_templates|distributed_cache_client_id"
    rb"|(?<!\w)(?:file|disk|python|arrowstream(?=[\"`\s]*[(/#-])|eval|executable)(?!\w)"
    rb"|(?<!\w)(?:values|sqlstandardvalues|generaterandom|null|input|format|fuzzjson)(?=[\"`\s]*[(/#-])",
    re.IGNORECASE,
)
_CODE = re.compile(r"default|alias|materialized|ephemeral", re.IGNORECASE)

# Settings that let data be code; the gateway sets them for every role but an administrator's, and nobody else may.
NO_CODE_IN_DATA = {"input_format_values_interpret_expressions": "0", "input_format_values_deduce_templates_of_expressions": "0"}

# The engine knows every connection as one user. This setting has no use outside ClickHouse's cloud, so the gateway keeps the user's name in it, where row policies,
# `currentUser()` and the query log find it.
USER_TAG = "distributed_cache_client_id"
USER_NAME = f"if(getSetting('{USER_TAG}') = '', currentUser(), getSetting('{USER_TAG}'))"  # with a user's own name in it, SQL that means currentUser()
# The engine takes no query id from a caller. This setting is free for a caller's text (it names a client towards remote servers, of which
# there are none) and stands in system.processes and in the query log, so the client's id goes there; log_comment stays the client's own.
ID_TAG = "chdb_client_name"
_LOCKED = frozenset({*NO_CODE_IN_DATA, "disk", "storage_policy", USER_TAG, ID_TAG})

# Statements that the parser does not show as JSON, and that hold neither functions nor settings beyond what rights cover.
_OPAQUE = ("Show", "Exists", "Describe", "Grant", "CreateUser", "CreateRole", "CreateQuota", "CreateRowPolicy", "CreateSettingsProfile", "DropAccessEntity", "Undrop")
_OPAQUE_TYPE = re.compile(r"AST node of type '(\w+)' does not support JSON")


def suspect(sql: bytes) -> bool:
    """Return whether a text must be parsed before it may run."""
    return _SUSPECT.search(sql) is not None


def forbidden_setting(names: Iterator[str]) -> str:
    """Return the first of the names that only an administrator may set, or an empty string."""
    return next((n for n in names if n in _LOCKED), "")


class Guard:
    """Verdicts by text. `parse` returns the engine's syntax tree of a statement as JSON, or raises Failure."""

    def __init__(self, parse: Callable[[bytes], str]) -> None:
        self._parse = parse
        self._kept: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, sql: bytes) -> None:
        """Refuse a suspect text for what the engine's access control does not see.

        Raises:
            Failure: 497, or the engine's own word on a text that it cannot parse.
        """
        with self._lock:
            why = self._kept.get(sql)
        if why is None:
            why = self._judge(sql)
            if len(sql) <= _KEPT_BYTES:
                with self._lock:
                    self._kept[sql] = why
                    if len(self._kept) > _KEPT:
                        self._kept.popitem(last=False)
        if why:
            raise denied(why)

    def _judge(self, sql: bytes) -> str:
        try:
            tree = json.loads(self._parse(sql))
        except Failure as error:
            opaque = _OPAQUE_TYPE.search(error.text)
            if opaque is None:
                raise
            return "" if opaque[1].startswith(_OPAQUE) and not _words(sql) & {"OUTFILE", "INFILE"} else _OPAQUE_WHY.get(opaque[1], "a statement of this kind")
        return reason(tree)


_OPAQUE_WHY = {"SetRoleQuery": "SET ROLE: a user has one role here, and it is set"}


def denied(why: str) -> Failure:
    """Return the failure of a statement that an administrator alone may run."""
    return failure(497, "ACCESS_DENIED", f"Not enough privileges. An administrator alone may use {why}")


def _words(sql: bytes) -> set[str]:
    return {t.value.decode("ascii").upper() for t in statements.tokens(sql) if t.kind == "word"}


def reason(node: Any, role: str = "") -> str:
    """Return what in a syntax tree only an administrator may use, or an empty string. Pure. `role`: the key that the node stands under."""
    if isinstance(node, list):
        return next((why for n in node if (why := reason(n, role))), "")
    if not isinstance(node, dict):
        return ""
    return _here(node, role) or next((why for key, n in node.items() if isinstance(n, dict | list) and (why := reason(n, key))), "")


def _here(node: dict[str, Any], role: str) -> str:
    kind = node.get("type", "")
    if node.get("out_file") or node.get("infile"):
        return "INTO OUTFILE and FROM INFILE"
    if kind == "CreateQuery" and node.get("attach"):
        return "ATTACH"
    if kind == "SQLSecurity" and node.get("security_type") != "INVOKER":
        return "SQL SECURITY other than INVOKER"
    if kind == "SetQuery" and (name := forbidden_setting(iter([*(c.get("name", "") for c in node.get("changes", [])), *node.get("default_settings", [])]))):
        return f"the setting {name}"
    if kind == "Function":
        return _function(node, role)
    return ""


def _function(node: dict[str, Any], role: str) -> str:
    name = node.get("name", "").lower()
    arguments = node.get("arguments", {}).get("children", [])
    if name in _FILES:
        return f"the function {name}"
    passed = [a.get("name", "").lower() for a in arguments if a.get("type") == "Identifier"]
    if not node.get("is_operator") and (used := _FILES.intersection(passed)):  # arrayMap(file, …)
        return f"the function {min(used)}"
    if name == "disk":
        return "a disk of its own"
    if role == "table_function" and name in _STRUCTURED and not _plain(name, arguments):
        return f"defaults, or anything but literals, in the structure of {name}"
    return ""


def _plain(name: str, arguments: list[dict[str, Any]]) -> bool:
    strings = 2 if name == "format" else 1
    for at, argument in enumerate(arguments):
        if argument.get("type") != "Literal":
            if at < strings and not (name in {"values", "sqlstandardvalues"} and argument.get("name") == "tuple"):
                return False
        elif isinstance(value := argument.get("value", {}).get("value"), str) and at < strings and _CODE.search(value):
            return False
    return True
