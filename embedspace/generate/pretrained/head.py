"""What a pretrained head is asked for by: a reference, such as "diffusers:kandinsky-2-2-decoder", and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedspace.errors import ArgumentError

__all__ = ["Head", "head_of"]


@dataclass(frozen=True, slots=True)
class Head:
    """A pretrained head, as `generate` takes it.

    Attributes:
        reference: "<prefix>:<folder or name>"; a name of the hub may end with "@<revision>".
        options: What else its adapter takes, such as `prior`: name -> value.
    """

    reference: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells heads apart."""
        return self.reference, *sorted((name, str(value)) for name, value in self.options.items())


def head_of(reference: str, settings: Sequence[str] = ()) -> Head:
    """Return a head with options written as "name=value".

    Raises:
        ArgumentError: If one is not written so, or stands twice.
    """
    options: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals and value):
            raise ArgumentError("head_option", f"{setting!r}: write NAME=VALUE, such as prior=FOLDER")
        if name in options:
            raise ArgumentError("head_option", f"{setting!r}: {name} is given twice")
        options[name] = value
    return Head(reference, options)
