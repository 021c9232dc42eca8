"""Build what `recipes/generators/faces.toml` learns from: python -m training.faces (some ten minutes of one core).

    python -m training.corpora.speech.speakers      # people's recordings
    apt-get install espeak-ng flite festival festvox-czech-dita festvox-czech-krb festvox-czech-machac \
        festvox-czech-ph festvox-italp16k festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv \
        festvox-ca-ona-hts festvox-ru
    python -m training.faces                        # build/faces; what is written stays

`build/faces/pairs.jsonl` is a manifest as a user's own is (`embedspace.train.generators.faces.pairs`): the "speaker" of
a row is the kind of person, so that any woman's voice goes with any picture of a woman. `build/faces/judge.jsonl` are
the pictures of other vendors, which nothing but the judge of the evaluation sees.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedspace.files import write_text
from embedspace.media.write import write_audio
from training.corpora.sounds.clips import SPEECH_RATE
from training.faces import portraits
from training.faces.speakers import Speaker, Utterance, speakers, utterances

OUT = Path("build/faces")
DRAWN_BY = ("emoji-google", "emoji-blob")
"""Vendors whose faces the generator learns, Google's of two times; the judge knows all others and none of these."""


def kind_of(gender: str, age: str) -> str:
    """Return "woman", "man", "girl" or "boy"; "" where the gender is unknown."""
    return {"female": {"adult": "woman", "child": "girl"}, "male": {"adult": "man", "child": "boy"}}.get(
        gender, {}
    ).get(age, "")


def _speech(speaker: Speaker) -> Iterator[dict[str, Any]]:
    """Yield the rows of a speaker's utterances; they are spoken once."""
    stem = speaker.name.replace(":", "_").replace("+", "_")
    listing = OUT / "speech" / f"{stem}.jsonl"
    if not listing.exists():
        rows = [
            _written(one, OUT / "speech" / f"{stem}-{number}.flac") for number, one in enumerate(utterances(speaker))
        ]
        write_text(listing, "".join(json.dumps(row) + "\n" for row in rows))
    yield from (json.loads(line) for line in listing.read_text("utf-8").splitlines())


def _written(one: Utterance, path: Path) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, one.waveform, SPEECH_RATE)
    return {
        "speech": path.relative_to(OUT).as_posix(), "speaker": kind_of(one.gender, one.age),
        "split": one.speaker.split, "voice": one.speaker.name, "gender": one.gender, "age": one.age, "how": one.how,
    }  # fmt: skip


def _pictures() -> Iterator[dict[str, Any]]:
    for one in portraits.build(OUT / "pictures"):
        yield {
            "picture": one.path.relative_to(OUT).as_posix(), "speaker": kind_of(one.person.gender, one.person.age),
            "vendor": one.vendor, "licence": one.licence, "gender": one.person.gender, "age": one.person.age,
            "tone": one.person.tone, "plain": one.person.plain,
        }  # fmt: skip


def main() -> int:
    """Build everything."""
    pictures = list(_pictures())
    drawn = [row for row in pictures if row["vendor"] in DRAWN_BY and row["speaker"] and row["plain"]]
    judged = [row for row in pictures if row["vendor"] not in DRAWN_BY]
    rows: list[dict[str, Any]] = []
    for speaker in speakers():
        own = list(_speech(speaker))
        print(f"{speaker.name}: {len(own)} utterances", flush=True)
        rows += own
    kept = [row for row in rows if row["speaker"]]
    write_text(OUT / "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in [*drawn, *kept]))
    write_text(OUT / "voices.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(OUT / "judge.jsonl", "".join(json.dumps(row) + "\n" for row in judged))
    print(Counter((row["split"], row["speaker"]) for row in rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
