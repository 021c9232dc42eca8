"""Select what a suite measures from corpus manifests.

A manifest is JSON Lines, one item per line, with the fields id, modality, path, text, captions, keywords, concept,
source, speaker, language, group, split and extra (a table); empty fields are left out. Paths are relative to the
corpora folder.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.catalog.ingest.manifests import BadRow
from embedspace.catalog.ingest.tables import read_rows as read_table
from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.errors import ConfigError, InputError
from embedspace.evaluate.suite import ItemSet, Novelty, Suite

__all__ = ["EvalItem", "field_of", "read_rows", "rows_hash", "select", "select_all", "select_sets"]

Row = Mapping[str, Any]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_STOP = frozenset(
    "a an the of and or in on at to with for from by is are this that it its some very into as be".split()
)


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One item of a set.

    Attributes:
        id: Id of its manifest row.
        content: What is encoded: a path relative to the corpora folder, or text.
        key: What it shares with its answers.
        row: The manifest row.
    """

    id: str
    content: str
    key: str
    row: Row


def read_rows(corpora: Path, source: str) -> list[Row]:
    """Read a source's manifest.

    Raises:
        ConfigError: If it is missing, or a line is no JSON object with an id.
    """
    path = corpora / source / "manifest.jsonl"
    rows: list[Row] = []
    try:
        for number, row in enumerate(read_table(path), 1):
            if isinstance(row, BadRow):
                raise ConfigError(f"{path}:{number}: {row.reason}")
            if "id" not in row:
                raise ConfigError(f"{path}:{number}: not an item of a manifest: a JSON object with an id is needed")
            rows.append(row)
    except InputError as error:
        raise ConfigError(f"{error}; build the corpus {source!r} first") from None
    return rows


def field_of(row: Row, name: str) -> Any:  # noqa: ANN401
    """Return a field of a row by its dotted name; "caption" is the first of "captions"; None where there is none."""
    value: Any = row
    for part in ("captions.0" if name == "caption" else name).split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _matches(row: Row, where: Mapping[str, Any]) -> bool:
    return all(_allowed(field_of(row, name), allowed) for name, allowed in where.items())


def _allowed(value: object, allowed: object) -> bool:
    choices = allowed if isinstance(allowed, list | tuple) else [allowed]
    values = value if isinstance(value, list | tuple) else [value]
    return any(_same(one, choice) for one in values for choice in choices)


def _same(value: object, choice: object) -> bool:
    if isinstance(choice, str):
        return fnmatch.fnmatchcase("" if value is None else str(value), choice)
    return bool((False if value is None else value) == choice)


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word not in _STOP]


def _is_new(row: Row, novelty: Novelty, vocabulary: set[str], phrases: str) -> bool:
    words = _words(str(field_of(row, novelty.about) or ""))
    if novelty.words == "phrase":
        return bool(words) and f" {' '.join(words)} " not in phrases
    return bool(words) and vocabulary.isdisjoint(words)


def _texts_of(row: Row, name: str) -> list[str]:
    """Return what a field of a row says, which may be one text, several, or nothing."""
    value = field_of(row, name)
    return [str(text) for text in (value if isinstance(value, list | tuple) else [value]) if text]


def _novel(rows: list[Row], novelty: Novelty, corpora: Path) -> list[Row]:
    texts: set[str] = set()
    for source in novelty.manifests:
        for row in read_rows(corpora, source):
            if _matches(row, novelty.where):
                texts.update(text for name in novelty.read for text in _texts_of(row, name))
    if "imagenet" in novelty.classes:
        for kind in imagenet_classes():
            texts.update([kind.name, *kind.synonyms, *kind.hypernyms])
    lists = [_words(text) for text in sorted(texts)]
    phrases = "|".join(f" {' '.join(words)} " for words in lists)
    vocabulary = {word for words in lists for word in words}
    return [row for row in rows if _is_new(row, novelty, vocabulary, phrases)]


def select(item_set: ItemSet, corpora: Path, earlier: Mapping[str, list[EvalItem]]) -> list[EvalItem]:
    """Return the items of a set in the order of its manifests.

    Args:
        item_set: What to select.
        corpora: Folder of the corpora.
        earlier: The sets before it, for `within`.

    Returns:
        The items; rows without content or key are left out.

    Raises:
        ConfigError: If a manifest cannot be read.
    """
    rows = [row for source in item_set.manifests for row in read_rows(corpora, source)]
    rows = [
        row
        for row in rows
        if (not item_set.rows or row.get("modality") == item_set.rows)
        and _matches(row, item_set.where)
        and not any(_matches(row, {name: value}) for name, value in item_set.where_not.items())
    ]
    if item_set.novel_to:
        rows = _novel(rows, item_set.novel_to, corpora)
    if item_set.lone_by:
        counts = Counter(str(field_of(row, item_set.lone_by)) for row in rows)
        rows = [row for row in rows if counts[str(field_of(row, item_set.lone_by))] == 1]
    if item_set.spread_over:
        values: dict[str, set[str]] = {}
        for row in rows:
            values.setdefault(str(field_of(row, item_set.key)), set()).add(str(field_of(row, item_set.spread_over)))
        rows = [row for row in rows if len(values[str(field_of(row, item_set.key))]) > 1]
    items = []
    for row in rows:
        parts = [field_of(row, name) for name in item_set.content.split(" + ")]
        content = "\n\n".join(str(part) for part in parts if part not in (None, ""))
        key = field_of(row, item_set.key)
        if content and key not in (None, ""):
            items.append(EvalItem(str(row["id"]), content, str(key), row))
    for name, inside in ((item_set.within, True), (item_set.not_within, False)):
        if name:
            keys = {item.key for item in earlier[name]}
            items = [item for item in items if (item.key in keys) is inside]
    if item_set.first_by:
        # reversed, so that the first of each value is the one that stays
        firsts = {str(field_of(item.row, item_set.first_by)): item.id for item in reversed(items)}
        items = [item for item in items if firsts[str(field_of(item.row, item_set.first_by))] == item.id]
    return _limited(items, item_set.limit)


def _limited(items: list[EvalItem], limit: int) -> list[EvalItem]:
    if not limit or len(items) <= limit:
        return items
    chosen = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:limit]
    kept = {item.id for item in chosen}
    return [item for item in items if item.id in kept]


def select_all(suite: Suite, corpora: Path) -> dict[str, list[EvalItem]]:
    """Return the items of every set of a suite.

    Raises:
        ConfigError: If a manifest cannot be read or a set is empty.
    """
    return select_sets(suite.name, suite.sets, corpora)


def select_sets(suite: str, sets: Mapping[str, ItemSet], corpora: Path) -> dict[str, list[EvalItem]]:
    """Return the items of every set of a suite of any kind; `suite` names it in messages.

    Raises:
        ConfigError: If a manifest cannot be read or a set is empty.
    """
    items: dict[str, list[EvalItem]] = {}
    for name, item_set in sets.items():
        items[name] = select(item_set, corpora, items)
        if not items[name]:
            raise ConfigError(f"suite {suite}: set {name!r} selects no row; check its where, key and use")
    return items


def rows_hash(sets: Mapping[str, list[EvalItem]]) -> str:
    """Return the hex digest of which items, with which words and keys, a suite measures: its split hash."""
    digest = hashlib.sha256()
    for name in sorted(sets):
        for item in sorted(sets[name], key=lambda item: (item.id, item.content)):
            digest.update(json.dumps([name, item.id, item.content, item.key]).encode())
    return digest.hexdigest()
