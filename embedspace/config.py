"""The one strict reader of configurations: TOML tables become frozen dataclasses, and an unknown key is an error.

Dataclasses own the defaults, so a file lists only what differs:

    @dataclass(frozen=True)
    class Optimizer:
        steps: int = 1000

    @dataclass(frozen=True)
    class Recipe:
        name: str
        optimizer: Optimizer = field(default_factory=Optimizer)

    recipe = load(Recipe, "mine.toml")          # [optimizer] in the file becomes an Optimizer

Fields may be str, int, float, bool, Path, Literal, Any, a dataclass, `X | None`, tuple[X, ...], tuple[X, Y] or a
mapping of str to any of them. A field that was called otherwise is read under that name, too: metadata={"was": "..."}.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from embedspace.errors import ConfigError

__all__ = ["build", "load", "read_toml"]

Record = TypeVar("Record")


def load(
    record: type[Record], path: str | Path, *, what: str = "configuration", hint: str = "", **given: object
) -> Record:
    """Read a TOML file into a frozen dataclass.

    Args:
        record: The dataclass; a field `name` that the file leaves out is the file's name without its suffix.
        path: The file.
        what: What the file is called in messages.
        hint: What to do when there is no such file, for messages.
        given: As `build`.

    Raises:
        ConfigError: As `read_toml` and `build`.
    """
    path = Path(path)
    table = read_toml(path, what=what, hint=hint)
    if any(field.name == "name" for field in dataclasses.fields(record)):  # type: ignore[arg-type]
        table = {"name": path.stem, **table}
    return build(record, table, str(path), **given)


def read_toml(path: str | Path, *, what: str = "configuration", hint: str = "") -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        what: What it is called in messages.
        hint: What to do when there is no such file, for messages.

    Raises:
        ConfigError: If it is missing, cannot be read, or is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what}" + (f"; {hint}" if hint else "")) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def build(record: type[Record], table: object, where: str, **given: object) -> Record:
    """Make a frozen dataclass of a table.

    Args:
        record: The dataclass.
        table: Key -> value, as TOML or JSON has them.
        where: The file or the place, for messages.
        given: Fields that the caller knows; the table may not name them.

    Raises:
        ConfigError: If a key is unknown or missing, or a value has another type than its field.
    """
    return _record(record, table, _Place(where), given)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a value stands: a file, and the keys that lead to it."""

    file: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: str) -> _Place:
        return _Place(self.file, (*self.keys, key))

    def __getitem__(self, number: int) -> _Place:
        return _Place(self.file, (*self.keys[:-1], f"{self.keys[-1]}[{number}]"))

    def __str__(self) -> str:
        return f"{self.file}: {'.'.join(self.keys)}" if self.keys else self.file


def _record(record: type[Record], table: object, place: _Place, given: Mapping[str, object]) -> Record:
    values = _renamed(record, _table(table, place), place)
    fields = {f.name: f for f in dataclasses.fields(record) if f.init and f.name not in given}  # type: ignore[arg-type]
    unknown = [key for key in values if key not in fields]
    if unknown:
        names = ", ".join(repr(key) for key in sorted(unknown))
        raise ConfigError(f"{place}: unknown key {names}; known: {', '.join(fields)}")
    kinds = typing.get_type_hints(record)
    found = {key: _value(value, kinds[key], place / key) for key, value in values.items()}
    for name, field in fields.items():  # last: a wrong value says more than what is missing beside it
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and name not in found:
            raise ConfigError(f"{place}: key {name!r} is missing")
    return record(**found, **given)


def _renamed(record: type[Any], values: Mapping[str, Any], place: _Place) -> Mapping[str, Any]:
    """Return a table whose keys are those of today; a field's metadata "was" is its name in earlier versions."""
    now = {f.metadata["was"]: f.name for f in dataclasses.fields(record) if "was" in f.metadata}
    for old in now.keys() & values.keys():
        if now[old] in values:
            raise ConfigError(f"{place}: {old!r} is called {now[old]!r} now; name it once")
    return {now.get(key, key): value for key, value in values.items()}


def _table(value: object, place: _Place) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place}: must be a table, got {value!r}")
    return value


def _value(value: Any, kind: Any, place: _Place) -> Any:  # noqa: ANN401 - whatever the annotation says
    """Return the value as its annotation wants it: lists as tuples, tables as dataclasses, whole numbers as floats."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in inner:
            return None
        kinds = [part for part in inner if part is not types.NoneType]
        return _value(value, next((k for k in kinds if k in _PLAIN and _fits(value, k)), kinds[0]), place)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, place, {}) if isinstance(kind, type) else value
    if origin is Literal:
        if value not in inner:
            raise ConfigError(f"{place}: must be one of {', '.join(map(repr, inner))}, got {value!r}")
        return value
    if origin is tuple:
        return _tuple(value, inner, place)
    if origin is not None and issubclass(origin, Mapping):
        each = inner[1] if len(inner) > 1 else Any
        return {key: _value(entry, each, place / key) for key, entry in _table(value, place).items()}
    return _plain(value, kind, place)


def _tuple(value: Any, kinds: tuple[Any, ...], place: _Place) -> tuple[Any, ...]:  # noqa: ANN401
    """Return a list as a tuple, each entry of its kind."""
    many = len(kinds) == 2 and kinds[1] is Ellipsis
    what = f"list of {_names(kinds[0])}" if many else f"list of {len(kinds)}"
    if not isinstance(value, list | tuple) or not (many or len(value) == len(kinds)):
        raise ConfigError(f"{place}: must be a {what}, got {value!r}")
    each = [kinds[0]] * len(value) if many else kinds
    if any(kind in _PLAIN and not _fits(entry, kind) for entry, kind in zip(value, each, strict=True)):
        raise ConfigError(f"{place}: must be a {what}, got {value!r}")
    return tuple(_value(entry, kind, place[n]) for n, (entry, kind) in enumerate(zip(value, each, strict=True)))


def _plain(value: Any, kind: Any, place: _Place) -> Any:  # noqa: ANN401
    if not _fits(value, kind):
        raise ConfigError(f"{place}: must be {_WORDS[kind][0]}, got {value!r}")
    return float(value) if kind is float else Path(value) if kind is Path else value


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, _PLAIN[kind])


def _names(kind: Any) -> str:  # noqa: ANN401
    return _WORDS[kind][1] if kind in _WORDS else "tables"


_PLAIN: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,), Path: (str, Path)}
_WORDS: dict[Any, tuple[str, str]] = {
    str: ("text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    Path: ("a path", "paths"),
}
"""What a type is called in messages: one, and several."""
