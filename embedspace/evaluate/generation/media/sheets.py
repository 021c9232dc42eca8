"""Sample sheets: one prompt per row, with its source, its nearest training items and what was made of it.

Near copies are framed in red. A person should be able to name what most rows show, and to see a copy as a copy.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.calibration.centring import centre
from embedspace.evaluate.generation.measures.distributions import near_copies
from embedspace.evaluate.generation.media.groups import GroupResult
from embedspace.evaluate.generation.media.medium import Content
from embedspace.evaluate.generation.media.scorer import Scorer
from embedspace.evaluate.generation.suites import VOICE
from embedspace.modality import Modality

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
        titles: One per column.
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


def write_sheets(scorer: Scorer, results: list[GroupResult], out_dir: Path) -> list[Path]:
    """Write <suite>.<group>.<source>.png for every source of every group; returns the paths."""
    written = []
    for group, result in zip(scorer.suite.groups, results, strict=True):
        for label in result.samples:
            path = out_dir / f"{scorer.suite.name}.{_slug(group.name)}.{_slug(label)}.png"
            _write_sheet(scorer, result, (label, str(group.sources[label]), group.items), path)
            written.append(path)
    return written


def _write_sheet(scorer: Scorer, result: GroupResult, source: tuple[str, str, str], path: Path) -> None:
    label, name, text_set = source
    have, seen = result.samples[label]
    chosen = range(min(scorer.suite.sheet, len(have)))
    part = scorer.prompts_of(text_set, [have[k] for k in chosen])
    found = scorer.vectors_of(part, name)
    near = near_copies(seen.likeness, scorer.threshold)
    starts = np.cumsum([0, *(len(contents) for contents in seen.contents)])
    rows: list[list[Cell]] = []
    for k in range(len(found.have)):
        row: list[Cell] = [(_source_picture(scorer, part.items[k].key, name), part.names[k], False)]
        centred = centre(found.vectors[k][None], found.modality, scorer.session.space.calibration.means)[0]
        for neighbour, content in scorer.generator.neighbour_media(centred, _NEIGHBOURS):
            row.append((scorer.medium.thumbnail(content), neighbour.caption, False))
        for place, content in enumerate(seen.contents[k], int(starts[k])):
            row.append(_sample_cell(scorer, content, bool(near[place]), int(seen.nearest[place])))
        if name == text_set:
            for other in result.other_families.values():
                first = sum(len(contents) for contents in other.contents[: have[k]])
                copied = bool(near_copies(other.likeness[first : first + 1], scorer.threshold)[0])
                row.append(_sample_cell(scorer, other.contents[have[k]][0], copied, int(other.nearest[first])))
        rows.append(row)
    titles = [label, *(f"neighbour {n + 1}" for n in range(_NEIGHBOURS))]
    titles += [f"seed {seed}" for seed in scorer.suite.seeds]
    titles += list(result.other_families) if name == text_set else []
    if rows:
        draw_sheet(rows, titles, path)


def _sample_cell(scorer: Scorer, content: Content, copied: bool, nearest: int) -> Cell:
    words = f"like {scorer.index.items[nearest].rpartition('/')[2]}" if copied else ""
    return scorer.medium.thumbnail(content), words, copied


def _source_picture(scorer: Scorer, key: str, name: str) -> NDArray[np.uint8] | None:
    """Return what a prompt's source looks like, if it is of the medium that is made."""
    if name.startswith(VOICE) or scorer.suite.sets[name].modality not in (Modality.IMAGE, Modality.AUDIO):
        return None
    if scorer.suite.sets[name].modality != scorer.suite.to:
        return None
    firsts = [item for item in scorer.session.items[name] if item.key == key][:1]
    return next((scorer.medium.thumbnail(content) for content in scorer.read(firsts)), None)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
