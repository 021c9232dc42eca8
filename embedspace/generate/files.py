"""Write samples to files, with where they come from inside: PNG text chunks, WAV comment, JSON beside a text."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import embedspace
from embedspace.errors import MediaError
from embedspace.files import replacing
from embedspace.generate.base import Sample
from embedspace.generate.targets import SUFFIXES
from embedspace.media.write import write_audio, write_image

__all__ = ["contact_sheet", "content_of", "record_of", "sample_bytes", "write_sample"]

_TYPES = {".png": "image/png", ".wav": "audio/wav", ".txt": "text/plain; charset=utf-8"}
_KEY = "embedspace"
_CELL, _LINE = 128, 14


def record_of(sample: Sample, query: str = "", terms: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return all that is known of a sample but its content, as JSON can hold it.

    Args:
        sample: The sample.
        query: What it was made from, as the user wrote it.
        terms: The query's terms: weight, value, modality, cosine.
    """
    record: dict[str, Any] = {"to": sample.modality, "query": query, "terms": [dict(term) for term in terms]}
    record |= {"text": sample.text} if sample.text else {}
    record |= {} if math.isnan(sample.score) else {"score": round(sample.score, 4)}
    if sample.alternatives:
        record["alternatives"] = [{"text": text, "score": round(score, 4)} for text, score in sample.alternatives]
    if sample.neighbours:
        record["neighbours"] = [
            {"item": n.item, "caption": n.caption, "similarity": round(n.similarity, 4), "of": n.of}
            for n in sample.neighbours
        ]
    return {**record, **sample.provenance, "embedspace": embedspace.__version__}


def content_of(sample: Sample) -> str:
    """Return what a sample holds: "image", "audio" or "text"."""
    if isinstance(sample.content, str):
        return "text"
    return "image" if np.asarray(sample.content).ndim == 3 else "audio"


def write_sample(path: Path, sample: Sample, record: Mapping[str, Any]) -> Path:
    """Write a sample; the suffix says the format.

    Args:
        path: .png, .jpg, .jpeg or .webp for a picture; .wav, .flac or .ogg for sound; .txt for a text, whose record
            lies beside it as <name>.json; or .json, record and text together.
        sample: What to write.
        record: From `record_of`; kept in the file as JSON under "embedspace".

    Raises:
        MediaError: If the format does not fit or the file cannot be written.
    """
    about = json.dumps(record, ensure_ascii=False)
    if content_of(sample) == "image":
        return write_image(path, np.asarray(sample.content), {_KEY: about, "Software": "embedspace"})
    if content_of(sample) == "audio":
        return write_audio(
            path, np.asarray(sample.content), sample.sample_rate, {_KEY: about, "software": "embedspace"}
        )
    if path.suffix.lower() not in (".txt", ".json"):
        raise MediaError(f"{path}: a text goes into a .txt or .json file")
    texts = {path.with_suffix(".json"): json.dumps(record, ensure_ascii=False, indent=1) + "\n"}
    if path.suffix.lower() == ".txt":
        texts[path] = f"{sample.content}\n"
    for target, content in texts.items():
        try:
            with replacing(target) as partial:
                partial.write_text(content, "utf-8")
        except OSError as error:
            raise MediaError(f"{target}: cannot be written: {error.strerror}; check the folder and its space") from None
    return path


def sample_bytes(sample: Sample, record: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a sample as the bytes of the file that `write_sample` writes, and their media type."""
    suffix = SUFFIXES[content_of(sample)]
    with tempfile.TemporaryDirectory(prefix="embedspace-") as folder:
        return write_sample(Path(folder) / f"made{suffix}", sample, record).read_bytes(), _TYPES[suffix]


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8] | Image.Image | None]]]], columns: int = 9
) -> Image.Image:
    """Draw pictures in rows: a source, its nearest training items, its samples.

    Args:
        rows: (title, cells) a row; a cell is (caption, picture); a picture that is None is drawn as its words.
        columns: Cells a line; longer rows wrap.

    Returns:
        The sheet.
    """
    lines: list[tuple[str, list[tuple[str, Any]]]] = []
    for title, cells in rows:
        for start in range(0, max(len(cells), 1), columns):
            lines.append((title if start == 0 else "", list(cells[start : start + columns])))
    height = _CELL + 2 * _LINE + 4
    sheet = Image.new("RGB", (columns * (_CELL + 4), max(1, len(lines)) * height), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for line, (title, cells) in enumerate(lines):
        top = line * height
        pen.text((2, top), title[:120], fill=(0, 0, 0), font=font)
        for column, (caption, picture) in enumerate(cells):
            left = column * (_CELL + 4)
            if picture is not None:
                image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
                image = image.convert("RGB").resize((_CELL, _CELL), Image.Resampling.BICUBIC)
                sheet.paste(image, (left, top + _LINE))
            pen.text((left + 2, top + _LINE + _CELL), caption[:22], fill=(90, 90, 90), font=font)
    return sheet
