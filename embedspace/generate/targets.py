"""What can be made, as the command line must know it before any network is loaded: no torch.

    from embedspace.generate import Option, Target, register_target

    register_target(Target("bell", "bells", "audio", (Option("pitch", float, "hertz of the strike note"), SECONDS)))

Beside it, `embedspace.generate.register_generator` says who makes it. Then
`embedspace generate --to bell --pitch 440` is offered, explained and checked as what ships is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from embedspace.errors import ArgumentError, ConfigError
from embedspace.generate.families.registry import family_names
from embedspace.plugins import Registry, load_plugins

__all__ = [
    "SUFFIXES",
    "Option",
    "Target",
    "choices_of",
    "known_targets",
    "option_help",
    "option_names",
    "options_of",
    "register_target",
    "target_names",
    "target_of",
    "targets",
]

SUFFIXES = {"image": ".png", "audio": ".wav", "text": ".txt"}
"""What samples hold -> suffix of their file where none was named."""
_WORD_LENGTH = 80
"""Characters that a word from another program may have."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a generator: a field of `Request`, or a key of its `extra`.

    Attributes:
        name: Its name in Python.
        kind: Type of its value.
        help: What it does, beginning in lower case.
        flag: Its flag on the command line; the name after two dashes where it is left out.
        least: The smallest number allowed; None: the generator decides.
        most: The largest number allowed; None: the generator decides.
        choices: Names to be listed with the help; a generator may know fewer.
        local: It is of a file of the user's: assistants do not take it.
        file: Its value is such a file, or words about one; over HTTP the ref of one that was sent.
    """

    name: str
    kind: type[int] | type[float] | type[str]
    help: str
    flag: str = ""
    least: float | None = None
    most: float | None = None
    choices: Callable[[], list[str]] | None = None
    local: bool = False
    file: bool = False

    @property
    def on_command_line(self) -> str:
        """Its flag."""
        return self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """Its name in a request over HTTP: the flag without dashes."""
        return self.on_command_line.lstrip("-").replace("-", "_")

    def check(self, value: float | str | None) -> None:
        """Refuse a number that is out of range.

        Raises:
            ArgumentError: If it is.
        """
        least = -math.inf if self.least is None else self.least
        most = math.inf if self.most is None else self.most
        if value is None or isinstance(value, str) or least <= value <= most:
            return
        allowed = (
            f"at least {least:g}" if most == math.inf else f"{'' if least == -math.inf else f'{least:g} '}to {most:g}"
        )
        raise ArgumentError(self.name, f"{value:g}: must be {allowed}")

    def field_type(self) -> Any:  # noqa: ANN401
        """Return the type of its value as pydantic checks and describes it."""
        from pydantic import Field

        about = option_help(self)
        if self.kind is str:
            return Annotated[str, Field(max_length=_WORD_LENGTH, description=about)]
        return Annotated[self.kind, Field(ge=self.least, le=self.most, allow_inf_nan=False, description=about)]


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
    def remote_options(self) -> tuple[Option, ...]:
        """The settings that an assistant may have: none that is of a file."""
        return tuple(option for option in self.options if not option.local)

    @property
    def suffix(self) -> str:
        """The suffix of a sample's file where none was named."""
        return SUFFIXES[self.content]


GUIDANCE = Option("guidance_scale", float, "how strongly the source binds; 1 is no guidance", "--guidance", 0, 30)
STEPS = Option("num_steps", int, "steps of the sampler", "--steps", 1, 1000)
FAMILY = Option("family", str, "which of the generator's networks; families are", choices=family_names)
SIZE = Option("size", int, "side in pixels, 96 unless said; larger ones are drawn by the upsampler", "", 16, 2048)
INIT = Option("init", str, "the file that is edited, in place of beginning from noise", local=True, file=True)
STRENGTH = Option("strength", float, "how far it may go from the edited file, 0 to 1", least=0, most=1, local=True)
MASK = Option(
    "mask",
    str,
    "what may change of the edited file: a picture of its size that is white there, left,top,right,bottom in pixels, "
    "or auto; of a sound, the seconds that are made anew, such as 1.5-2",
    local=True,
    file=True,
)
STYLE = Option(
    "style",
    str,
    "the style of a source that it was trained on, such as openmoji; what is edited is itself redrawn in it, and so is "
    "a source that is one picture, on the command line",
)
MAP = Option(
    "map",
    str,
    "a picture of what is to be drawn where: an outline, a silhouette or edges, dark on white",
    local=True,
    file=True,
)
START = Option(
    "start",
    float,
    "where drawing begins: 0 at noise, for a picture of its own; from there to 0.95 ever nearer at the training item "
    "that is nearest",
    least=0,
    most=0.95,
)
CANDIDATES = Option("candidates", int, "draw so many for each sample and keep the one that fits best", "", 1, 64)
SECONDS = Option("seconds", float, "length", "", 0.25, 60)
VOICE = Option(
    "voice",
    str,
    "piper:joe, flite:slt, espeak:en-us, ...; the best by default. On the command line also a recording of "
    "somebody who agreed, 3 s of speech at least: what --from says is said in their voice",
)

_TAKEN = frozenset(
    "as as_modality count device download extra film_sound force from head head_option head_options help json morph n "
    "neighbours num_samples number out overwrite seed settings sheet sounds sources space space_name terms to "
    "weights".split()
)
"""Names and keys that every target's request has already: on the command line, over HTTP or for an assistant."""
_TARGETS: Registry[Target] = Registry("target", {})
_COMMON = (GUIDANCE, STEPS, FAMILY)
_EDITING = (INIT, STRENGTH, MASK)


def register_target(target: Target) -> Target:
    """Let a target be known, from anywhere.

    Raises:
        ConfigError: If another target has the name, or one of its options means something else elsewhere.
    """
    for option in target.options:
        if {option.name, option.key} & _TAKEN:
            raise ConfigError(f"target {target.name!r}: its option {option.name!r} is one of every target; rename it")
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


def known_targets(names: Iterable[str]) -> list[Target]:
    """Return those of some names that are targets, in the order in which they were registered.

    Args:
        names: Names of generators, such as `embedspace.vocabulary.generator_targets` returns.
    """
    wanted = set(names)
    if not wanted <= {target.name for target in targets()}:
        load_plugins()
    return [target for target in targets() if target.name in wanted]


def target_of(name: str) -> Target | None:
    """Return a target; None for one that nobody registered."""
    return _TARGETS.get(name)


def option_names(name: str) -> frozenset[str]:
    """Return the names of the options that a target takes; none of one that nobody registered."""
    found = target_of(name)
    return frozenset(option.name for option in found.options) if found is not None else frozenset()


def option_help(option: Option) -> str:
    """Return what an option does and which targets take it, as one sentence."""
    about = option.help if option.choices is None else f"{option.help} {', '.join(option.choices())}"
    takers = [target for target in targets() if option.name in option_names(target.name)]
    if len(takers) in (0, len(targets())):
        return f"{about[0].upper()}{about[1:]}."
    return f"{' and '.join(target.what for target in takers).capitalize()}: {about}."


def choices_of(option: Option, generator: Path) -> list[str]:
    """Return what an option may be: by a generator's own configuration, else by the option; nothing where that is open.

    Args:
        option: Of the family and the style the configuration tells.
        generator: Folder of the generator.
    """
    if option not in (FAMILY, STYLE):
        return [] if option.choices is None else option.choices()
    try:
        families = dict(json.loads((generator / "config.json").read_text("utf-8")).get("families", {}))
        if option is FAMILY:
            return list(families)
        styles = [str(style) for family in families.values() for style in family.get("styles", ())]
    except (OSError, ValueError, TypeError, AttributeError):  # who generates is told what is wrong with it
        return []
    translators = sorted(path.stem for path in (generator / "styles").glob("*.json") if path.stem != "recipe")
    return list(dict.fromkeys([*styles, *translators]))


def options_of(some: Iterable[Target], *, remote: bool = False) -> list[Option]:
    """Return the options of some targets, each once; if `remote`, those that an assistant may have."""
    found = {o.name: o for target in some for o in (target.remote_options if remote else target.options)}
    return list(found.values())


for _target in (
    Target("image", "pictures", "image", (*_COMMON, SIZE, START, CANDIDATES, STYLE, MAP, *_EDITING)),
    Target("audio", "sounds", "audio", (*_COMMON, SECONDS, *_EDITING)),
    Target("text", "captions", "text", _COMMON, ranked=True),
    Target("speech", "speech", "audio", (*_COMMON, VOICE), ranked=True),
):
    register_target(_target)
