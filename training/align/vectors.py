"""Encode the corpora through a space: the vectors that generation heads learn from and are measured on.

    python -m training.align.vectors text                          # every caption, keyword and class name  (2 minutes)
    python -m training.align.vectors text --splits val             # those of validation items alone
    python -m training.align.vectors image audio --only sounds emoji-twitter
    python -m training.align.vectors speech --only human --limit 400

Vectors land in build/features/vectors/<modality>/<source>.npz with `ids` (for texts the texts) and `vectors`. They
belong to one set of weights: the fingerprint is kept with them, and another one's are made anew. A run skips what is
there.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.evaluate.encode import SuiteEncoder
from embedspace.evaluate.items import EvalItem, Row, read_rows
from embedspace.files import replacing
from embedspace.space import EmbeddingSpace
from training.align.features import FEATURES
from training.corpora.manifest import CORPORA

CACHE = Path("build/eval-cache")


def caption_texts(rows: Sequence[Row]) -> set[str]:
    """Return every text of a manifest that a caption could be made of."""
    texts: set[str] = set()
    for row in rows:
        texts.update([*row.get("captions", ()), *row.get("keywords", ())])
        texts.update([row["concept"]] if row.get("concept") else [])
    return texts


def class_names() -> set[str]:
    """Return the names of ImageNet's classes with their synonyms."""
    return {name for row in imagenet_classes() for name in (row.name, *row.synonyms)}


def _store(path: Path, ids: Sequence[str], vectors: np.ndarray, fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, ids=np.array(ids), vectors=vectors.astype(np.float16), fingerprint=np.array(fingerprint))


def _is_made(path: Path, ids: Sequence[str], fingerprint: str) -> bool:
    if not path.is_file():
        return False
    with np.load(path) as stored:
        return str(stored["fingerprint"]) == fingerprint and set(ids) <= set(stored["ids"].tolist())


def _earlier(path: Path, fingerprint: str) -> dict[str, np.ndarray]:
    """Return what is there of the same weights: a smaller selection adds to a larger one and takes nothing away."""
    if not path.is_file():
        return {}
    with np.load(path) as stored:
        same = str(stored["fingerprint"]) == fingerprint
        return dict(zip(stored["ids"].tolist(), stored["vectors"], strict=True)) if same else {}


def build(
    space: EmbeddingSpace, modality: str, only: Sequence[str] | None, limit: int, splits: Sequence[str] | None
) -> None:
    """Encode the items of a modality, source by source; of each at most `limit`, the first by a hash of their id."""
    encoder = SuiteEncoder(space, CORPORA, CACHE, lambda doing, done, of: print(f"{doing}: {done}/{of}", flush=True))
    fingerprint = space.fingerprints()[modality]
    sources = sorted(path.parent.name for path in CORPORA.glob("*/manifest.jsonl"))
    if modality == "text":
        texts = set() if splits else class_names()
        for name in sources:
            texts |= caption_texts([r for r in read_rows(CORPORA, name) if not splits or r.get("split") in splits])
        wanted = {"texts": [EvalItem(text, text, "", {}) for text in sorted(texts)]}
    else:
        wanted = {}
        for name in [source for source in sources if not only or source in only]:
            rows = [r for r in read_rows(CORPORA, name) if r["modality"] == modality and r.get("split") != "drop"]
            if splits:
                rows = [row for row in rows if row.get("split", "train") in splits]
            if limit:
                rows = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).hexdigest())[:limit]
            if rows:
                wanted[name] = [EvalItem(row["id"], row["path"], "", row) for row in rows]
    for name, items in wanted.items():
        path = FEATURES / "vectors" / modality / f"{name}.npz"
        if _is_made(path, [item.id for item in items], fingerprint):
            continue
        rows_of = encoder.encode(items, modality, f"{modality} {name}")
        made = {item.id: row for item, row in zip(items, rows_of, strict=True) if np.isfinite(row).all()}
        made = _earlier(path, fingerprint) | made
        _store(path, list(made), np.stack(list(made.values())), fingerprint)
    for item, reason in encoder.failures.items():
        print(f"left out: {item}: {reason}", file=sys.stderr)


def main() -> None:
    """Parse the command line and encode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modalities", nargs="+", choices=["text", "image", "audio", "speech"])
    parser.add_argument("--only", nargs="*", help="sources")
    parser.add_argument("--splits", nargs="*", help="splits; all by default, and of texts the class names too")
    parser.add_argument("--limit", type=int, default=0, help="items a source")
    parser.add_argument("--weights", type=Path, help="folder of a space; the shipped one by default")
    args = parser.parse_args()
    space = EmbeddingSpace.from_pretrained(args.weights)
    for modality in args.modalities:
        build(space, modality, args.only, args.limit, args.splits)


if __name__ == "__main__":
    main()
