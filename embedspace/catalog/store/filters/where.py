"""The filter language of `where`: a small, safe part of SQL, compiled to SQL with parameters.

    expression  = term {"or" term}
    term        = factor {"and" factor}
    factor      = "not" factor | "(" expression ")" | comparison
    comparison  = field ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | field ["not"] "like" value
                | field ["not"] "in" "(" value {"," value} ")"
                | field ["not"] "between" value "and" value
                | field "is" ["not"] "null"
    value       = number | 'text' | "text" | true | false
    field       = name with dots | `any name`

Keywords are case-insensitive, and so is `like` (for ASCII; % is any text, _ any character). A field is a column of the
catalog or a name in the metadata. Where both have a name ("label"), the bare name is refused, and says so: it is either
`meta.label`, the metadata's, or `catalog.label`, the column. Nothing of the expression but fixed keywords ever becomes
SQL text: values and metadata names travel as parameters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedspace.errors import InputError

__all__ = ["COLUMNS", "LOOKUP", "Condition", "Node", "compile_where", "json_value"]

COLUMNS: dict[str, str] = {
    "id": "i.id {}",
    "kind": "i.kind {}",
    "modality": "s.modality {}",
    "label": "s.label {}",
    "text": "s.text {}",
    "start": "s.start {}",
    "end": 's."end" {}',
    "uri": "EXISTS (SELECT 1 FROM uris u WHERE u.item = i.item AND u.uri {})",
    "size": "EXISTS (SELECT 1 FROM uris u WHERE u.item = i.item AND u.size {})",
    "mtime": "EXISTS (SELECT 1 FROM uris u WHERE u.item = i.item AND u.mtime_ns / 1e9 {})",
}
"""Field -> SQL with a place for the comparison; i is the item, s one of its segments, u one of its places."""

LOOKUP = "SELECT item FROM field_values WHERE field = ?"
"""What selects items by a value of a field; comparisons of the value follow."""
_MAX_LENGTH = 20_000
_MAX_DEPTH = 50
_MAX_PARAMETERS = 900
_MAX_PATTERN = 1000
"""A match takes as long as pattern times text, and cannot be interrupted."""
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
          | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
          | (?P<quoted>`[^`]+`)
          | (?P<name>[^\W\d][\w.]*)
          | (?P<operator><=|>=|<>|!=|==|[=<>(),]))""",
    re.VERBOSE,
)
_KEYWORDS = frozenset({"and", "or", "not", "like", "in", "between", "is", "null", "true", "false"})
_COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a filter.

    Attributes:
        joint: "and", "or" or "not" of its parts; empty for a comparison.
        parts: The parts.
        name: The name in the metadata that is compared; empty for a column.
        lookups: Selects of the items that fulfil the comparison from `field_values`, with their values; together they
            find each item. None where it cannot be looked up.
        words: The comparison, for people.
        column: The column that is compared; empty for a name in the metadata.
        body: The comparison as SQL, with a mark per value; empty where absence is asked for.
        values: Its values.
    """

    joint: str = ""
    parts: tuple[Node, ...] = ()
    name: str = ""
    lookups: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    words: str = ""
    column: str = ""
    body: str = ""
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled filter.

    Attributes:
        sql: A condition over `items i` and `segments s`.
        parameters: Its values, in order.
        root: Its parts, for planning.
        of_places: Whether it asks for places, which an item may get and lose.
    """

    sql: str = ""
    parameters: Sequence[Any] = ()
    root: Node = field(default_factory=Node)
    of_places: bool = False


def compile_where(expression: str, fields: Collection[str]) -> Condition:
    """Compile a filter.

    Args:
        expression: In the language above.
        fields: Names in the catalog's metadata.

    Returns:
        The condition; it is false, not unknown, for an item that lacks a field.

    Raises:
        InputError: If it cannot be read, names a field that no item has, or one that both are called.
    """
    try:
        expression.encode()
    except UnicodeEncodeError:
        raise InputError(f"where: {expression!r} is not UTF-8; is the terminal's encoding another?") from None
    if len(expression) > _MAX_LENGTH:
        raise InputError(f"where: an expression of {len(expression)} characters; at most {_MAX_LENGTH}")
    parser = _Parser(expression, fields)
    sql, root = parser.any_of(0)
    parser.finish()
    if len(parser.parameters) > _MAX_PARAMETERS:
        raise InputError(f"where: {len(parser.parameters)} values; at most {_MAX_PARAMETERS}")
    return Condition(sql, parser.parameters, root, parser.of_places)


def json_value(name: str) -> tuple[str, list[str]]:
    """Return the SQL of a metadata field's value in `items i`, and its parameters."""
    if "." not in name:
        return "json_extract(i.metadata, ?)", [f'$."{name}"']
    nested = '"."'.join(name.split("."))  # a dotted name may be one key, or a key in a nested mapping
    return "coalesce(json_extract(i.metadata, ?), json_extract(i.metadata, ?))", [f'$."{name}"', f'$."{nested}"']


def _lookups(name: str, body: str, values: tuple[Any, ...]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return what finds the items whose value compares so; see `Node`."""
    if body == "LIKE ?" and isinstance(values[0], str):
        return tuple(
            (f"{LOOKUP} AND {span} AND value LIKE ?", (name, *bounds, values[0])) for span, bounds in _spans(values[0])
        )
    return ((f"{LOOKUP} AND value {body}", (name, *values)),)


def _spans(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return ranges of values in which all lie that are like a pattern, whatever the case of its letters."""
    start = re.split(r"[%_]", pattern)[0]
    if not start or not start.isascii():
        return [("value IS NOT NULL", ())]
    rest = start[1:]
    between = "value >= ? AND value < ?"
    firsts = sorted({start[0].upper(), start[0].lower()})
    spans: list[tuple[str, tuple[str, ...]]] = [
        (between, (first + rest.upper(), f"{first}{rest.lower()}\U0010ffff")) for first in firsts
    ]
    return spans if len(firsts) == 2 else [*spans, ("value < ''", ())]  # what begins with a digit may be a number


class _Parser:
    """Recursive descent over the tokens; the methods for parts return SQL and node, and appends to `parameters`."""

    def __init__(self, expression: str, fields: Collection[str]) -> None:
        self.expression, self.fields = expression, fields
        self.parameters: list[Any] = []
        self.tokens: list[tuple[str, str, int]] = []
        self.at = 0
        self.of_places = False
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                raise self.error("cannot read this", end - len(expression[position:end].lstrip()))
            kind, value = match.lastgroup, match.group(match.lastgroup)
            if kind == "name" and value.lower() in _KEYWORDS:
                kind, value = "keyword", value.lower()
            self.tokens.append((kind, value, match.start(match.lastgroup)))
            position = match.end()

    def error(self, problem: str, position: int | None = None) -> InputError:
        if position is None:
            position = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.expression)
        rest = self.expression[position : position + 30].strip() or "its end"
        return InputError(
            f"where: {problem} at character {position + 1} ({rest}) of {self.expression!r}; "
            "example: duration < 5 and kind = 'audio' and title like '%soup%'"
        )

    def accept(self, kind: str, *values: str) -> str | None:
        if self.at < len(self.tokens):
            found, value, _ = self.tokens[self.at]
            if found == kind and (not values or value in values):
                self.at += 1
                return value
        return None

    def expect(self, kind: str, value: str) -> None:
        if self.accept(kind, value) is None:
            raise self.error(f"expected {value!r}")

    def finish(self) -> None:
        if self.at < len(self.tokens):
            raise self.error("expected 'and', 'or' or the end")

    def any_of(self, depth: int) -> tuple[str, Node]:
        return self.joined("or", self.all_of, depth)

    def all_of(self, depth: int) -> tuple[str, Node]:
        return self.joined("and", self.factor, depth)

    def joined(self, word: str, part: Callable[[int], tuple[str, Node]], depth: int) -> tuple[str, Node]:
        parts = [part(depth)]
        while self.accept("keyword", word):
            parts.append(part(depth))
        if len(parts) == 1:
            return parts[0]
        sql = f" {word.upper()} ".join(one for one, _ in parts)
        return f"({sql})", Node(word, tuple(node for _, node in parts))

    def factor(self, depth: int) -> tuple[str, Node]:
        if depth > _MAX_DEPTH:
            raise self.error(f"nested deeper than {_MAX_DEPTH}")
        if self.accept("keyword", "not"):
            sql, node = self.factor(depth + 1)
            return f"(NOT {sql})", Node("not", (node,))
        if self.accept("operator", "("):
            inner = self.any_of(depth + 1)
            self.expect("operator", ")")
            return inner
        first = self.tokens[self.at][2] if self.at < len(self.tokens) else 0
        shape, name, column = self.field()
        before = len(self.parameters)
        sql, body = self.comparison(shape)
        values = tuple(self.parameters[before:])
        last = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.expression)
        words = self.expression[first:last].strip()
        lookups = _lookups(name, body, values) if name and body else ()
        return sql, Node(name=name, lookups=lookups, words=words, column=column, body=body, values=values)

    def comparison(self, shape: str) -> tuple[str, str]:
        """Return the SQL of a comparison, and what is compared with a value; empty where that is its absence."""
        if self.accept("keyword", "is"):
            negated = self.accept("keyword", "not") is not None
            self.expect("keyword", "null")
            return f"({shape.format('IS NOT NULL' if negated else 'IS NULL')})", "IS NOT NULL" if negated else ""
        negated = self.accept("keyword", "not") is not None
        prefix = "NOT " if negated else ""
        if self.accept("keyword", "like"):
            body = f"{prefix}LIKE {self.value()}"
            if len(str(self.parameters[-1])) > _MAX_PATTERN:
                raise self.error(f"a pattern of more than {_MAX_PATTERN} characters")
        elif self.accept("keyword", "in"):
            self.expect("operator", "(")
            values = [self.value()]
            while self.accept("operator", ","):
                values.append(self.value())
            self.expect("operator", ")")
            body = f"{prefix}IN ({', '.join(values)})"
        elif self.accept("keyword", "between"):
            low = self.value()
            self.expect("keyword", "and")
            body = f"{prefix}BETWEEN {low} AND {self.value()}"
        else:
            operator = None if negated else self.accept("operator", *_COMPARISONS)
            if operator is None:
                raise self.error("expected a comparison (= != < <= > >= like in between is)")
            body = f"{_COMPARISONS[operator]} {self.value()}"
        return f"ifnull({shape.format(body)}, 0)", body

    def field(self) -> tuple[str, str, str]:
        """Return the SQL of a field with a place for a comparison, and its name: in the metadata, or as a column."""
        name = self.accept("name") or (self.accept("quoted") or "").strip("`")
        if not name:
            raise self.error("expected the name of a field")
        column = name.removeprefix("catalog.")
        if column in COLUMNS and name not in self.fields:
            self.of_places = self.of_places or "FROM uris" in COLUMNS[column]
            return COLUMNS[column], "", column
        if name in COLUMNS:
            raise InputError(
                f"where: {name!r} is a name in the metadata and a column of the catalog; write meta.{name} or "
                f"catalog.{name} in {self.expression!r}"
            )
        key = name.removeprefix("meta.") if name.startswith("meta.") and name not in self.fields else name
        if key not in self.fields:
            self.at -= 1
            known = sorted({*COLUMNS, *self.fields})
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise self.error(f"unknown field {name!r}{hint}; known: {', '.join(known)};")
        sql, parameters = json_value(key)
        self.parameters += parameters
        return f"{sql} {{}}", key, ""

    def value(self) -> str:
        if (number := self.accept("number")) is not None:
            self.parameters.append(int(number) if re.fullmatch(r"[-+]?\d{1,18}", number) else float(number))
        elif (text := self.accept("text")) is not None:
            self.parameters.append(text[1:-1].replace(text[0] * 2, text[0]))
        elif (truth := self.accept("keyword", "true", "false")) is not None:
            self.parameters.append(int(truth == "true"))
        else:
            raise self.error("expected a value (a number, or text in quotes)")
        return "?"
