"""How a filter finds its segments: by the table of values where that helps, else item by item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embedspace.catalog.store.database import Database
from embedspace.catalog.store.filters.values import has_values, is_plain
from embedspace.catalog.store.filters.where import LOOKUP, Condition, Node

__all__ = ["Plan", "matching_items", "plan_filter"]

_COUNTED = 50_000
"""Items that are counted of a comparison at most; of more than this the other comparisons are not asked one by one."""
_SCAN = "SELECT s.seq FROM segments s JOIN items i ON i.item = s.item WHERE s.seq > ? AND {}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a filter is evaluated.

    Attributes:
        sql: Selects the numbers of segments above one; that is the first parameter, or the last where `last`.
        parameters: All others.
        words: The same, for people.
        last: Where the first number goes.
    """

    sql: str
    parameters: tuple[Any, ...]
    words: str
    last: bool = False

    def values(self, after: int) -> tuple[Any, ...]:
        """Return all parameters."""
        return (*self.parameters, after) if self.last else (after, *self.parameters)


@dataclass(frozen=True, slots=True)
class _Cover:
    """Items among which are all that fulfil a part of a filter.

    Attributes:
        sql: Selects their numbers.
        parameters: Its values.
        count: How many there are, at most `_COUNTED` per comparison.
        exact: Whether they are no others.
        words: What is looked up.
    """

    sql: str
    parameters: tuple[Any, ...]
    count: int
    exact: bool
    words: str


def plan_filter(database: Database, condition: Condition, *, few: bool = False) -> Plan:
    """Return how the segments that fulfil a condition are found fastest; the caller translates errors.

    Args:
        database: The catalog's rows.
        condition: What they fulfil.
        few: Whether only a few segments are asked for: the newest ones.
    """
    scan = Plan(_SCAN.format(condition.sql), tuple(condition.parameters), "every item is looked at")
    named = [node.name for node in _comparisons(condition.root) if node.name]
    if few or not named:
        return scan
    if not has_values(database):
        return _because(scan, "the values of metadata are not in a table yet: embedspace catalog optimize")
    odd = sorted({name for name in named if not is_plain(database, name)})
    cover = _cover(database, condition.root, odd)
    if cover is None:
        why = f"{', '.join(odd)}: values that no table holds" if odd else "what is looked up does not narrow it down"
        return _because(scan, why)
    among = f"SELECT s.seq FROM (SELECT DISTINCT item FROM ({cover.sql})) c CROSS JOIN segments s ON s.item = c.item"
    if cover.exact:
        return Plan(f"{among} WHERE s.seq > ?", cover.parameters, cover.words, last=True)
    if cover.count >= _COUNTED:
        return _because(scan, f"{cover.words}: too many to ask the rest of each")
    return Plan(
        f"{among} CROSS JOIN items i ON i.item = s.item WHERE {condition.sql} AND s.seq > ?",
        (*cover.parameters, *condition.parameters),
        f"{cover.words}; of each the rest is asked",
        last=True,
    )


def _because(scan: Plan, why: str) -> Plan:
    return Plan(scan.sql, scan.parameters, f"{scan.words} ({why})")


def _comparisons(node: Node) -> Iterator[Node]:
    if not node.joint:
        yield node
    for part in node.parts:
        yield from _comparisons(part)


def _cover(database: Database, node: Node, odd: Sequence[str]) -> _Cover | None:
    if node.joint == "and":
        parts = _merged(node.parts)
        found = [cover for cover in (_cover(database, part, odd) for part in parts) if cover is not None]
        return _narrowest(found, len(parts)) if found else None
    if node.joint == "or":
        covers = [_cover(database, part, odd) for part in node.parts]
        every = [cover for cover in covers if cover is not None]
        if len(every) < len(covers):
            return None
        return _Cover(
            " UNION ALL ".join(f"SELECT item FROM ({cover.sql})" for cover in every),
            tuple(value for cover in every for value in cover.parameters),
            sum(cover.count for cover in every),
            all(cover.exact for cover in every),
            " or ".join(cover.words for cover in every),
        )
    if node.joint or not node.lookups or node.name in odd:
        return None
    return _looked_up(database, node)


def _merged(parts: Sequence[Node]) -> list[Node]:
    """Return the parts of a conjunction; comparisons of one field are one, as between two years."""
    merged: dict[str, Node] = {}
    others = []
    for part in parts:
        if part.joint or len(part.lookups) != 1:
            others.append(part)
            continue
        before = merged.get(part.name)
        if before is not None:
            (sql, values), (more, others_values) = before.lookups[0], part.lookups[0]
            both = (f"{sql}{more.removeprefix(LOOKUP)}", (*values, *others_values[1:]))
            part = Node(name=part.name, lookups=(both,), words=f"{before.words} and {part.words}")
        merged[part.name] = part
    return [*merged.values(), *others]


def _narrowest(covers: Sequence[_Cover], parts: int) -> _Cover:
    """Return what covers all parts of a conjunction: the smallest, or what several large ones have in common."""
    best = min(covers, key=lambda cover: cover.count)
    if parts == 1:
        return best
    if best.count < _COUNTED or len(covers) < parts or not all(cover.exact for cover in covers):
        return _Cover(best.sql, best.parameters, best.count, False, best.words)
    sql = " INTERSECT ".join(f"SELECT item FROM ({cover.sql})" for cover in covers)
    values = tuple(value for cover in covers for value in cover.parameters)
    return _Cover(sql, values, best.count, True, " and ".join(cover.words for cover in covers))


def _looked_up(database: Database, node: Node) -> _Cover:
    count = 0
    for sql, parameters in node.lookups:
        bounded = f"SELECT count(*) FROM (SELECT 1 FROM ({sql}) LIMIT ?)"
        with database.lock:
            count += int(database.connection.execute(bounded, (*parameters, _COUNTED)).fetchone()[0])
    sql = " UNION ALL ".join(sql for sql, _ in node.lookups)
    values = tuple(value for _, parameters in node.lookups for value in parameters)
    many = f"{_COUNTED} items or more" if count >= _COUNTED else f"{count} items"
    return _Cover(sql, values, count, True, f"{re.sub(r'[ ]+', ' ', node.words)}: {many} in the table of metadata")


def matching_items(database: Database, condition: Condition) -> tuple[str, tuple[Any, ...]]:
    """Return the SQL of the numbers of items that fulfil a condition by one of their segments, and its parameters."""
    plan = plan_filter(database, condition)
    return f"SELECT item FROM segments WHERE seq IN ({plan.sql})", plan.values(0)
