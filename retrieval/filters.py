"""One boolean SQL expression over the metadata table, and nothing else SQL can do.

Two walls, either of which would do: the expression is parsed by DuckDB itself and every node of the tree must be
on a short list (columns, constants, comparisons, a few text and number functions; no subquery, no table, no setting),
and the connection that runs it lives in memory, cannot touch files or the network, and has its configuration locked.
"""

from __future__ import annotations

import difflib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kineme.retrieval.errors import RetrievalError

MAX_LENGTH = 4000
MAX_DEPTH = 200
"""Levels of the parsed expression, counted in its JSON."""
MAX_PATTERN = 300
"""Characters of all constants in a call of a regular expression."""
MOST_S = 10.0
"""Seconds that a filter may take: others wait for it meanwhile."""
ALLOWED_NODES = frozenset(
    ("BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE")
)
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "abs", "ceil", "floor", "round")
_LIKE = ("~~", "!~~", "~~*", "!~~*", "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape")
_TEXT = ("||", "lower", "upper", "trim", "length", "contains", "starts_with", "ends_with", "prefix", "suffix")
_PATTERNS = ("regexp_matches", "regexp_full_match")
ALLOWED_FUNCTIONS = frozenset((*_ARITHMETIC, *_LIKE, *_TEXT, *_PATTERNS))
# Checked bare and run in brackets: what escapes the brackets does not parse bare, and a clause that DuckDB leaves out
# of the tree (WINDOW) does not parse in brackets.
_CHECKED = "SELECT rowid FROM clips WHERE \n{}\n"
_RUN = "SELECT rowid FROM clips WHERE (\n{}\n)"
_LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
    "threads": "1",
}


class MetadataFilter:
    """Rows of a table that a boolean expression keeps. Safe to share between threads.

    Args:
        table: the metadata.
        numbers: (N,) ascending, the row numbers that :meth:`rows` returns; 0, 1, ... if not given.
        most_s: seconds that one filter may take.
    """

    def __init__(self, table: pa.Table, numbers: NDArray[np.int64] | None = None, *, most_s: float = MOST_S) -> None:
        self._numbers = np.arange(len(table)) if numbers is None else numbers
        self.columns: list[str] = table.column_names
        self._most_s = most_s
        self._lock = threading.Lock()
        self._connection = duckdb.connect(":memory:", config=_LOCKED)
        self._connection.register("incoming", table)
        self._connection.execute("CREATE TABLE clips AS SELECT * FROM incoming")
        self._connection.unregister("incoming")
        self._plain = self._parse("true")

    def rows(self, where: str) -> NDArray[np.int64]:
        """Numbers of the rows for which ``where`` is true, ascending.

        Args:
            where: for example ``action = 'walk' and height >= 64``; NULL counts as false.

        Raises:
            RetrievalError: not one boolean expression, an unknown column, a function that is not allowed, or one that
                takes too long.
        """
        with self._lock:
            self._check(where)
            try:
                with self._in_time():
                    found = self._connection.execute(_RUN.format(where)).fetchnumpy()["rowid"]
            except duckdb.InterruptException:
                raise _refusal(where, f"it takes longer than {self._most_s:g} s") from None
            except duckdb.Error as error:
                raise _refusal(where, _first_line(error)) from None
        return self._numbers[np.sort(np.asarray(found, dtype=np.int64))]

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        timer = threading.Timer(self._most_s, self._connection.interrupt)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            # Until it has ended it might interrupt the next filter.
            timer.join()

    def _check(self, where: str) -> None:
        if not where.strip():
            raise _refusal(where, "it is empty")
        if len(where) > MAX_LENGTH:
            raise _refusal(where[:40] + "...", f"it is longer than {MAX_LENGTH} characters")
        statement = self._parse(where)
        expression = statement.pop("where_clause", None)
        if expression is None or statement != {
            key: value for key, value in self._plain.items() if key != "where_clause"
        }:
            raise _refusal(where, "it is more than one expression")
        for node in _nodes(expression):
            self._check_node(where, node)

    def _parse(self, where: str) -> dict[str, Any]:
        """The tree of the one SELECT that ``where`` stands in, without positions in the text."""
        try:
            row = self._connection.execute(
                "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true)",
                [_CHECKED.format(where)],
            ).fetchone()
            answer: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
        except (duckdb.Error, ValueError) as error:
            raise _refusal(where, _first_line(error)) from None
        except RecursionError:
            raise _refusal(where, "it is nested too deeply") from None
        if answer["error"]:
            raise _refusal(where, _first_line(answer.get("error_message", "not SQL")))
        if len(answer["statements"]) != 1:
            raise _refusal(where, "it is more than one statement")
        node: dict[str, Any] = answer["statements"][0]["node"]
        # Where Python's own limit on recursion lies depends on what else the process has imported.
        if _depth(node) > MAX_DEPTH:
            raise _refusal(where, "it is nested too deeply")
        for part in _nodes(node):
            part.pop("query_location", None)
            part.pop("query_location_length", None)
        return node

    def _check_node(self, where: str, node: dict[str, Any]) -> None:
        kind = node.get("class")
        if kind is not None and kind not in ALLOWED_NODES:
            raise _refusal(where, f"{str(kind).lower().replace('_', ' ')} is not allowed")
        if kind == "FUNCTION" and node["function_name"] not in ALLOWED_FUNCTIONS:
            raise _refusal(where, f"function {node['function_name']} is not allowed")
        if kind == "FUNCTION" and node["function_name"] in _PATTERNS:
            self._check_pattern(where, node)
        if kind == "COLUMN_REF":
            self._check_column(".".join(node["column_names"]))

    def _check_pattern(self, where: str, call: dict[str, Any]) -> None:
        """DuckDB looks at the clock between blocks of rows alone: a pattern must not take minutes for one of them."""
        constants = [node for node in _nodes(call) if node.get("class") == "CONSTANT"]
        texts = [text for constant in constants for part in _nodes(constant) for text in part.values()]
        texts = [text for text in texts if isinstance(text, str)]
        if any("{" in text for text in texts):
            raise _refusal(where, "a counted repetition, { }, is not allowed in a regular expression")
        if sum(map(len, texts)) > MAX_PATTERN:
            raise _refusal(where, f"a regular expression is longer than {MAX_PATTERN} characters")

    def _check_column(self, name: str) -> None:
        known = {column.casefold(): column for column in self.columns}
        if name.casefold() in known:
            return
        near = difflib.get_close_matches(name.casefold(), known, n=1)
        mend = f"did you mean {known[near[0]]}? " if near else ""
        raise RetrievalError(
            f"unknown column {name!r}: {mend}the columns are {', '.join(self.columns)} "
            "(a text value takes single quotes)"
        )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every dict of a JSON tree."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _depth(tree: Any) -> int:
    """How deep dicts and lists of a JSON tree are nested."""
    deepest, level = 0, [tree]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0]


def _refusal(where: str, reason: str) -> RetrievalError:
    return RetrievalError(
        f"filter {where!r}: {reason}: one boolean expression over the metadata columns expected, "
        "such as action = 'walk' and height >= 64"
    )
