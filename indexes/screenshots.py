"""A catalog of real media for pictures of the page.

    python -m training.corpora openclipart emoji-fluent sounds instruments     # once; hours less than all corpora
    python -m indexes.screenshots                       # builds demo/page.catalog; the pictures are not taken yet

The media are those whose licences ask for no more than a name (NOTICE): Open Clip Art's CC0 pictures, Microsoft's
Fluent emoji (MIT), sounds under CC0 and instruments of FluidR3 (MIT), and captions, some said by Piper's voice joe
(CC0). Needs what `make test` installs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedspace.cli import main as embedspace

__all__ = ["media_rows"]

CORPORA = Path("build/corpora")
CLIP_ART = {"animals": 1, "food": 2, "plants": 1, "transportation": 2, "buildings": 2, "recreation": 6}
"""Folder of Open Clip Art -> every how many-th of its pictures is taken."""
EMOJI = {"animals-nature": 1, "food-drink": 1, "travel-places": 2, "activities": 1, "objects": 3}
SAID = 24


def _manifest(source: str) -> Iterator[dict[str, Any]]:
    for line in (CORPORA / source / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["licence"] in ("CC0-1.0", "MIT"):
            yield row


def _row(found: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    path = str((CORPORA / found["path"]).absolute())
    facts = {"caption": found["captions"][0], "licence": found["licence"], "source": found["source"]}
    return {"path": path, "modality": found["modality"], **facts, **more}


def media_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a manifest row for each picture, sound, spoken caption and text.

    Args:
        folder: What is said is written there.
    """
    import soundfile

    from embedspace.generate.speech.voices import SAMPLE_RATE, speak

    counts: dict[str, int] = {}
    captions: list[str] = []

    def is_taken(group: str, step: int) -> bool:
        counts[group] = counts.get(group, -1) + 1
        return step > 0 and counts[group] % step == 0

    for found in _manifest("openclipart"):
        group = found["extra"]["folder"]
        if found["extra"].get("trusted") and is_taken(group, CLIP_ART.get(group, 0)):
            yield _row(found, folder=group)
    for found in _manifest("emoji-fluent"):
        group = found["extra"]["group"]
        if is_taken(group, EMOJI.get(group, 0)):
            captions.append(found["captions"][0])
            yield _row(found, folder=group)
    for source, step in (("sounds", 1), ("instruments", 8)):
        for found in _manifest(source):
            if found["source"] in ("sounds-ovos", "sounds-opensfx", "instruments") and is_taken(source, step):
                yield _row(found, folder="sounds", duration=round(found["extra"]["seconds"], 2))
    for caption in captions[:: max(1, len(captions) // SAID)][:SAID]:
        waveform, _ = speak(f"{caption}.")
        path = folder / f"{caption.replace(' ', '-')}.flac"
        soundfile.write(path, waveform, SAMPLE_RATE)
        yield {
            "path": str(path.absolute()),
            "modality": "speech",
            "caption": caption,
            "licence": "CC0-1.0",
            "source": "piper-joe",
        }
    for caption in sorted(set(captions))[::2]:
        yield {"id": caption, "modality": "text", "text": caption, "licence": "MIT", "source": "emoji-fluent"}


def build(folder: Path) -> Path:
    """Return the catalog, made or brought up to date."""
    (folder / "said").mkdir(parents=True, exist_ok=True)
    manifest = folder / "page.jsonl"
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in media_rows(folder / "said")]
    manifest.write_text("".join(rows), "utf-8")
    catalog = folder / "page.catalog"
    if embedspace(["index", str(manifest), "--catalog", str(catalog)]):
        raise SystemExit(f"{catalog} could not be built")
    return catalog


def main() -> None:
    """Build the catalog."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the catalog goes")
    given = parser.parse_args()
    build(given.folder)


if __name__ == "__main__":
    main()
