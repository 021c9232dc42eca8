"""From a filter of `where` to one of Qdrant: equal meaning, or SQLite answers that part and says so.

Qdrant compares numbers as ranges, texts by equality and prefix, times as ranges. Where SQLite's order of texts, its
patterns or values of mixed types mean something else, the comparison is answered by SQLite: the numbers of its segments
become part of the filter.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any

from embedspace.catalog.engines.contract import Filter
from embedspace.catalog.engines.payload import URI_FOLDED, field_path, folded, rounded
from embedspace.catalog.store.filters.kinds import TIME_FORMATS, field_kind, time_format
from embedspace.catalog.store.filters.where import Node
from embedspace.catalog.store.store import Store
from embedspace.errors import InputError

__all__ = ["MOST_NUMBERS", "FilterTranslator"]

MOST_NUMBERS = 100_000
"""So many segments that SQLite found are sent along with a query at most."""
_TEXTS = ("id", "kind", "modality", "label", "text", "uri")
_PLACES = ("uri", "size", "mtime")
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_FIRST_OF = {4: "-01-01", 7: "-01", 10: ""}
"""Characters of the beginning of a date -> what makes it its first day."""
_CLOCKS = {"date": "", "T": "T00:00:00", "Z": "T00:00:00Z", " ": " 00:00:00"}
_WHOLE = {"date": 10, "T": 19, "Z": 20, " ": 19}
_EXACT = 2**53


class FilterTranslator:
    """Translates the filters of one catalog.

    Attributes:
        untranslated: Comparisons of the last filter that SQLite answered, with how many segments it found.
    """

    def __init__(self, store: Store, numbers: Callable[[str], Sequence[int]]) -> None:
        """Translate for a catalog.

        Args:
            store: Its rows.
            numbers: Returns the segments that fulfil a comparison.
        """
        self._store, self._numbers = store, numbers
        self.untranslated: dict[str, int] = {}

    def translate(self, root: Node) -> Filter:
        """Return a filter with the meaning of a parsed one.

        Raises:
            InputError: If a comparison cannot be translated and too many segments fulfil it.
        """
        self.untranslated = {}
        return self._any(root)

    def _any(self, node: Node) -> Filter:
        names = {"and": "must", "or": "should", "not": "must_not"}
        if node.joint:
            return {names[node.joint]: [self._any(part) for part in node.parts]}
        return self._comparison(node) or self._answered(node)

    def _answered(self, node: Node) -> Filter:
        numbers = self._numbers(node.words)
        self.untranslated[node.words] = len(numbers)
        if len(numbers) > MOST_NUMBERS:
            raise InputError(
                f"where: {node.words!r} cannot be asked of the engine, and {len(numbers)} segments fulfil it; at most "
                f"{MOST_NUMBERS} can be sent along: ask for =, <, >, in, between, is null or like 'prefix%', or search "
                "the catalog itself"
            )
        return {"must": [{"has_id": [int(number) for number in numbers]}]}

    def _comparison(self, node: Node) -> Filter | None:
        """Return the filter of one comparison; None where the engine would mean something else."""
        negated = node.body.startswith(("NOT ", "!="))
        if node.column:
            kind, path = "text" if node.column in _TEXTS else "number", node.column
            if negated and node.column in _PLACES:
                return None  # of several places one may be other than what is asked
        else:
            kind, path = field_kind(self._store, node.name), field_path(node.name)
        if not kind:
            return None
        absent = {"is_empty": {"key": path}}
        if node.body == "":
            return {"must": [absent]}
        if node.body == "IS NOT NULL":
            return {"must_not": [absent]}
        operator = node.body.removeprefix("NOT ").split(" ")[0]
        found = self._positive(node, kind, path, "=" if operator == "!=" else operator)
        if found is None:
            return None
        return {"must_not": [absent, found]} if negated else found

    def _positive(self, node: Node, kind: str, path: str, operator: str) -> Filter | None:
        if operator == "LIKE":
            return self._prefix(node, kind) if isinstance(node.values[0], str) else None
        numbers = all(not isinstance(value, str) for value in node.values)
        if kind == "number" and numbers and all(abs(value) <= _EXACT for value in node.values):
            return _of_numbers(path, operator, node.values)
        if kind == "text" and all(isinstance(value, str) for value in node.values):
            if operator in ("=", "IN"):
                return {"must": [{"key": path, "match": {"any": list(node.values)}}]}
            return self._time(node, path, operator)
        return None

    def _prefix(self, node: Node, kind: str) -> Filter | None:
        found = re.fullmatch(r"([^%_]+)%", node.values[0])
        if kind != "text" or found is None or node.column not in ("", "uri"):
            return None
        path = URI_FOLDED if node.column else field_path(node.name, fold=True)
        return {"must": [{"key": path, "match": {"prefix": folded(found[1])}}]}

    def _time(self, node: Node, path: str, operator: str) -> Filter | None:
        written = "" if node.column else time_format(self._store, node.name)
        if not written:
            return None
        bounds: dict[str, str] = {}
        given = zip((">=", "<="), node.values, strict=True) if operator == "BETWEEN" else [(operator, *node.values)]
        for sign, value in given:
            bound = _moment(value, written)
            if bound is None or sign not in _RANGES:
                return None
            if len(value) < _WHOLE[written]:  # a beginning lies before all that begin with it
                sign = ">=" if sign in (">", ">=") else "<"
            bounds[_RANGES[sign]] = bound
        return {"must": [{"key": path, "range": bounds}]}


def _of_numbers(path: str, operator: str, values: Sequence[Any]) -> Filter | None:
    if operator in ("=", "IN"):
        return {"should": [{"key": path, "range": {"gte": rounded(one), "lte": rounded(one)}} for one in values]}
    if operator == "BETWEEN":
        return {"must": [{"key": path, "range": {"gte": rounded(values[0]), "lte": rounded(values[1])}}]}
    return {"must": [{"key": path, "range": {_RANGES[operator]: rounded(values[0])}}]}


def _moment(value: str, written: str) -> str | None:
    """Return the first moment that begins with a text, written as Qdrant reads it; None for another text."""
    date, clock = value[:10], value[10:]
    if not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", date) or (clock and len(value) != _WHOLE[written]):
        return None
    whole = date + _FIRST_OF[len(date)] + (clock or _CLOCKS[written])
    try:
        datetime.datetime.strptime(whole, TIME_FORMATS[written])
    except ValueError:
        return None
    return whole
