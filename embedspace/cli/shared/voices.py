"""What `embedspace generate --from talk.wav --to speech --voice ref.wav` does: speech in the voice of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.cli.shared.targets import check_targets, deliver, each_source, sample_paths
from embedspace.errors import ArgumentError, InputError
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.generate.base import Sample
    from embedspace.query.sources import Source

__all__ = ["convert_sources", "is_converted", "says_without_vectors"]

_RECORDINGS = ("audio", "video")


def says_without_vectors(
    sources: Sequence[str],
    to: str,
    by: str | None,
    settings: Mapping[str, Any],
    others: Mapping[str, Any],
    drawn: tuple[int, int],
    *,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    space: tuple[str | None, str, bool],
) -> bool:
    """Do what no space's vectors take part in: words from lips, faces by voices, and speech in a recording's voice.

    Args:
        sources: As the user gave them.
        to: Target.
        by: As `generate_by` takes it; None for none.
        settings: Options of the target.
        others: Further options, None, False or 0 where they were not given; "as" is what files are.
        drawn: How many, and the seed of the first.
        out: File to write.
        overwrite: Replace files.
        as_json: Print one object a source.
        space: Name, device and whether it may be fetched, of the space that hears voices.

    Returns:
        Whether it was one of these.

    Raises:
        EmbedspaceError: If an option does not fit, or something cannot be read.
    """
    if by is None and others.get("landmarks") is not None:
        raise ArgumentError("landmarks", f"{others['landmarks']}: goes with --by lips")
    if by is not None:
        given = {**settings, **others}
        generate_by(by, sources, to, given, drawn, out, overwrite=overwrite, as_json=as_json, space=space)
        return True
    if not is_converted(to, settings):
        return False
    others = {**others, "n": drawn[0] - 1}
    convert_sources(sources, settings, others, out=out, overwrite=overwrite, as_json=as_json)
    return True


def is_converted(to: str, settings: Mapping[str, Any]) -> bool:
    """Return whether speech is asked for in the voice of a recording.

    Raises:
        ArgumentError: If the voice is neither a recording nor one that is installed.
    """
    if to != Modality.SPEECH:
        return False
    from embedspace.generate.speech.voices import is_reference

    return is_reference(settings.get("voice"))


def convert_sources(
    sources: Sequence[str],
    settings: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Say words, or what recordings say, in the voice of a recording.

    Args:
        sources: As the user gave them.
        settings: Options of the target; "voice" is the recording.
        others: Options that do not go with it, None, False or 0 where they were not given; and "as", what files of
            unknown suffix are.
        out: File to write; several sources become name-1, name-2, ...
        overwrite: Replace files.
        as_json: Print one object a source.

    Raises:
        EmbedspaceError: If an option does not fit, or something cannot be read; of several, those that can be are.
    """
    voice = str(settings["voice"])
    for name, value in {**{k: v for k, v in settings.items() if k != "voice"}, **others}.items():
        if name != "as" and value not in (None, False, 0):
            shown = value + 1 if name == "n" else value
            raise ArgumentError(name, f"{shown}: does not go with a recording as the voice, which makes one sample")
    found = [_source(text, others.get("as")) for text in sources]
    paths = _paths(found, sources, voice, out, overwrite)

    def say(number: int) -> None:
        sample = _sample(found[number], voice)
        said = f"  {sample.text!r}" if sample.text else ""
        said += f"  in the voice of {sample.provenance['voice']}"
        deliver(sample, found[number].value, paths[number], as_json=as_json, said=said)

    wrong_voice = f"{voice}: "
    each_source(len(found), say, "sources could not be said", lambda error: str(error).startswith(wrong_voice))


def _source(text: str, as_modality: str | None) -> Source:
    """Return the words or the recording that is said.

    Raises:
        InputError: If it is something else.
    """
    from embedspace.query.grammar import parse
    from embedspace.query.sources import resolve

    terms = parse(text).terms
    if len(terms) > 1 or terms[0].weight != 1:
        raise InputError(f"--from {text}: is a composition; with a recording as --voice give words or a recording")
    found = resolve(terms[0].value, quoted=terms[0].quoted, as_modality=as_modality)
    if not found.is_words and found.kind not in _RECORDINGS:
        raise InputError(
            f"--from {text}: nobody speaks in such a file; with a recording as --voice give words or a recording"
        )
    return found


def _paths(
    found: Sequence[Source], sources: Sequence[str], voice: str, out: Path | None, overwrite: bool
) -> list[Path]:
    from embedspace.cli.shared.output import open_for_writing
    from embedspace.generate.targets import target_of

    target = target_of(Modality.SPEECH)
    assert target is not None
    paths = [own[0] for own in sample_paths(out, sources, target, 1)]
    read = [Path(one.path) for one in found if one.path is not None]
    check_targets(paths, [*read, Path(voice)], overwrite=overwrite)
    if out is not None:
        open_for_writing(out)
    return paths


def _sample(source: Source, voice: str) -> Sample:
    from embedspace.generate.base import Sample
    from embedspace.generate.conversion.say import say_in, say_words

    if source.path is None:
        waveform, rate, about = say_words(source.value, voice)
        return Sample(str(Modality.SPEECH), waveform, 0, rate, text=source.value, provenance=about)
    waveform, rate, about = say_in(source.path, voice)
    return Sample(str(Modality.SPEECH), waveform, 0, rate, provenance=about)


def generate_by(
    by: str,
    sources: Sequence[str],
    to: str,
    given: dict[str, Any],
    drawn: tuple[int, int],
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    space: tuple[str | None, str, bool],
) -> None:
    """Draw faces by voices, or read films by lips; `drawn` is number and seed, others are as `make_faces` takes them.

    Raises:
        EmbedspaceError: If an option does not fit, or a source cannot be used.
    """
    number, seed = drawn
    from embedspace.cli.shared.faces import make_faces, makes_faces
    from embedspace.cli.shared.lips import LIPS, read_films

    if makes_faces(by):
        make_faces(
            sources, to, by, given, number=number, seed=seed, out=out, overwrite=overwrite, as_json=as_json, space=space
        )
        return
    if to == Modality.IMAGE and by != LIPS and not Path(by).is_dir():
        raise ArgumentError("by", f"{by}: must be voice, or a folder that a recipe of kind faces made")
    read_films(sources, to, by, {**given, "n": number - 1}, out=out, overwrite=overwrite, as_json=as_json)
