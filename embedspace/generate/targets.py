"""What can be made, as the command line must know it before any network is loaded: no torch.

    from embedspace.generate import Option, Target, register_target

    register_target(Target("bell", "bells", "audio", (Option("pitch", float, "hertz of the strike note"), SECONDS)))

Beside it, `embedspace.generate.register_generator` says who makes it. Then
`embedspace generate --to bell --pitch 440` is offered, explained and checked as what ships is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from embedspace.errors import ConfigError
from embedspace.plugins import Registry, load_plugins

__all__ = [
    "SUFFIXES",
    "Option",
    "Target",
    "option_names",
    "options_of",
    "register_target",
    "target_names",
    "target_of",
    "targets",
]

SUFFIXES = {"image": ".png", "audio": ".wav", "text": ".txt"}
"""What samples hold -> suffix of their file where none was named."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a generator: a field of `Request`, or a key of its `extra`.

    Attributes:
        name: In Python.
        kind: Of its value.
        help: What it does, beginning in lower case.
        flag: On the command line; the name after two dashes, where it is left out.
    """

    name: str
    kind: type[int] | type[float] | type[str]
    help: str
    flag: str = ""

    @property
    def on_command_line(self) -> str:
        """Its flag."""
        return self.flag or f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that can be made.

    Attributes:
        name: As `--to` and `to=` take it; the folder of its generator.
        what: Its samples, in the plural, for people.
        content: What a sample holds: pixels, a waveform, or words.
        options: The settings that its generator takes.
        ranked: Whether all samples of one source are made together, for the best come first.
    """

    name: str
    what: str
    content: Literal["image", "audio", "text"]
    options: tuple[Option, ...] = ()
    ranked: bool = False

    @property
    def suffix(self) -> str:
        """The suffix of a sample's file where none was named."""
        return SUFFIXES[self.content]


GUIDANCE = Option("guidance_scale", float, "how strongly the source binds; 1 is no guidance", "--guidance")
STEPS = Option("num_steps", int, "steps of the sampler", "--steps")
FAMILY = Option("family", str, "which of the generator's networks, such as flow or vae")
SIZE = Option("size", int, "side in pixels that they are scaled to")
CANDIDATES = Option("candidates", int, "draw so many for each sample and keep the one that fits best")
SECONDS = Option("seconds", float, "length")
VOICE = Option("voice", str, "piper:joe, flite:slt, espeak:en-us, ...; the best by default")

_TARGETS: Registry[Target] = Registry("target", {})
_COMMON = (GUIDANCE, STEPS, FAMILY)


def register_target(target: Target) -> Target:
    """Let a target be known, from anywhere.

    Raises:
        ConfigError: If another target has the name, or one of its options means something else elsewhere.
    """
    for option in target.options:
        for other in options_of(targets()):
            same = (option.name == other.name, option.on_command_line == other.on_command_line)
            if any(same) and not (all(same) and option.kind is other.kind):
                raise ConfigError(
                    f"target {target.name!r}: its option {option.name!r} ({option.on_command_line}) would be taken for "
                    f"{other.name!r} ({other.on_command_line}, {other.kind.__name__}); give it another name and flag"
                )
    _TARGETS.add(target.name, target)
    return target


def targets() -> list[Target]:
    """Return the targets that are known by now, in the order in which they were registered."""
    return list(_TARGETS.found.values())


def target_names() -> list[str]:
    """Return the names of all targets, those of other distributions included."""
    load_plugins()
    return [target.name for target in targets()]


def target_of(name: str) -> Target | None:
    """Return a target; None for one that nobody registered."""
    return _TARGETS.get(name)


def option_names(name: str) -> frozenset[str]:
    """Return the names of the options that a target takes; none of one that nobody registered."""
    found = target_of(name)
    return frozenset(option.name for option in found.options) if found is not None else frozenset()


def options_of(some: Iterable[Target]) -> list[Option]:
    """Return the options of some targets, each once."""
    return list({option.name: option for target in some for option in target.options}.values())


for _target in (
    Target("image", "pictures", "image", (*_COMMON, SIZE, CANDIDATES)),
    Target("audio", "sounds", "audio", (*_COMMON, SECONDS)),
    Target("text", "captions", "text", _COMMON, ranked=True),
    Target("speech", "speech", "audio", (*_COMMON, VOICE), ranked=True),
):
    register_target(_target)
