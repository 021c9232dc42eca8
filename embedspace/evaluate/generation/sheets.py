"""Sample sheets: a prompt a row, its source, its nearest training items, what was made; near-copies are framed in red.

A person should be able to name what most rows show, and to see a copy as a copy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.evaluate.generation.measures.distributions import near_copies
from embedspace.evaluate.generation.media import Content
from embedspace.evaluate.generation.sources import VOICE
from embedspace.generate.conditioning import centre
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.evaluate.generation.measures.bench import Bench
    from embedspace.evaluate.generation.media_run import GroupResult

__all__ = ["Cell", "draw_sheet", "write_sheets"]

Cell = tuple[NDArray[np.uint8] | None, str, bool]
"""A picture (H, W, 3) or nothing, what is written under it, whether it is a near-copy."""

_NEIGHBOURS = 3
_TEXT, _GAP, _FRAME = 14, 6, 3
_RED = (215, 25, 28)


def draw_sheet(rows: list[list[Cell]], titles: list[str], path: Path) -> None:
    """Draw cells in rows.

    Args:
        rows: As many cells each as there are titles.
        titles: Of the columns.
        path: The PNG file.
    """
    shapes = [cell[0].shape for row in rows for cell in row if cell[0] is not None]
    height, width = max(s[0] for s in shapes), max(s[1] for s in shapes)
    step_x, step_y = width + 2 * _GAP, height + _TEXT + 2 * _GAP
    sheet = Image.new("RGB", (step_x * len(titles), _TEXT + _GAP + step_y * len(rows)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    letters = max(4, width // 6)
    for column, title in enumerate(titles):
        draw.text((column * step_x + _GAP, 2), title[:letters], fill=(90, 90, 90))
    for line, row in enumerate(rows):
        for column, (picture, words, copied) in enumerate(row):
            x, y = column * step_x + _GAP, _TEXT + _GAP + line * step_y + _GAP
            if picture is not None:
                sheet.paste(Image.fromarray(picture), (x, y))
            if copied:
                box = (x - _FRAME, y - _FRAME, x + width + _FRAME - 1, y + height + _FRAME - 1)
                draw.rectangle(box, outline=_RED, width=_FRAME)
            colour = _RED if copied else (0, 0, 0)
            draw.text((x, y + height + 1), words.encode("latin-1", "replace").decode("latin-1")[:letters], fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    # 255 colours: sheets are committed, and a third as large
    sheet.convert("P", palette=Image.Palette.ADAPTIVE, colors=255).save(path, optimize=True)


def write_sheets(bench: Bench, results: list[GroupResult], out_dir: Path) -> list[Path]:
    """Write <suite>.<group>.<source>.png for every source of every group; returns the paths."""
    written = []
    for group, result in zip(bench.suite.groups, results, strict=True):
        for label in result.made:
            path = out_dir / f"{bench.suite.name}.{_slug(group.name)}.{_slug(label)}.png"
            _write_sheet(bench, result, (label, str(group.sources[label]), group.items), path)
            written.append(path)
    return written


def _write_sheet(bench: Bench, result: GroupResult, source: tuple[str, str, str], path: Path) -> None:
    label, name, text_set = source
    have, seen = result.made[label]
    chosen = range(min(bench.suite.sheet, len(have)))
    part = bench.prompts_of(text_set, [have[k] for k in chosen])
    found = bench.vectors_of(part, name)
    near = near_copies(seen.likeness, bench.threshold)
    starts = np.cumsum([0, *(len(contents) for contents in seen.contents)])
    rows: list[list[Cell]] = []
    for k in range(len(found.have)):
        row: list[Cell] = [(_source_picture(bench, part.items[k].key, name), part.names[k], False)]
        centred = centre(found.vectors[k][None], found.modality, bench.space.calibration.means)[0]
        for neighbour, content in bench.head.gallery_media(centred, _NEIGHBOURS):
            row.append((bench.medium.thumbnail(content), neighbour.caption, False))
        for number, content in enumerate(seen.contents[k]):
            row.append(_made(bench, content, bool(near[starts[k] + number]), int(seen.nearest[starts[k] + number])))
        if name == text_set:
            for other in result.other.values():
                first = sum(len(contents) for contents in other.contents[: have[k]])
                copied = bool(near_copies(other.likeness[first : first + 1], bench.threshold)[0])
                row.append(_made(bench, other.contents[have[k]][0], copied, int(other.nearest[first])))
        rows.append(row)
    titles = [label, *(f"neighbour {n + 1}" for n in range(_NEIGHBOURS))]
    titles += [f"seed {seed}" for seed in bench.suite.seeds]
    titles += list(result.other) if name == text_set else []
    if rows:
        draw_sheet(rows, titles, path)


def _made(bench: Bench, content: Content, copied: bool, nearest: int) -> Cell:
    words = f"like {bench.index.items[nearest].rpartition('/')[2]}" if copied else ""
    return bench.medium.thumbnail(content), words, copied


def _source_picture(bench: Bench, key: str, name: str) -> NDArray[np.uint8] | None:
    """Return what a prompt's source looks like, if it is of the medium that is made."""
    if name.startswith(VOICE) or bench.suite.sets[name].modality not in (Modality.IMAGE, Modality.AUDIO):
        return None
    if bench.suite.sets[name].modality != bench.suite.to:
        return None
    firsts = [item for item in bench.items[name] if item.key == key][:1]
    return next((bench.medium.thumbnail(content) for content in bench.read(firsts)), None)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
