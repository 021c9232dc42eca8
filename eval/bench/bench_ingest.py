"""Throughput of ingest against that of the encoders alone on input that is decoded already.

    python -m eval.bench.bench_ingest                   # 2,000 mixed files of build/corpora
    python -m eval.bench.bench_ingest --folder ~/media --files 500
    python -m eval.bench.bench_ingest --made --fake     # made-up files and no encoder: the catalog's own work

The encoders get the same batches that ingest makes: items of one kind, `--batch-size` at a time. The two are timed in
turn on parts of the files, so that what else the machine does falls on both; processor time stands beside wall time.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.errors import EmbedspaceError
from embedspace.modality import modality_of
from embedspace.segment import Decoded, SegmentEncoder
from eval.bench.common import arguments, encoder_of, make_media, media_files, mixed_media, report


class Seconds(NamedTuple):
    """Wall time and processor time of all threads."""

    wall: float
    processor: float


def now() -> Seconds:
    """Return both clocks."""
    return Seconds(time.perf_counter(), time.process_time())


def since(started: Seconds) -> Seconds:
    """Return what has passed on both clocks."""
    wall, processor = now()
    return Seconds(wall - started.wall, processor - started.processor)


def decode_all(encoder: SegmentEncoder, files: list[Path]) -> tuple[dict[str, list[Decoded]], Seconds]:
    """Return the decoded files by kind, and the seconds that one thread took."""
    started = now()
    kinds: dict[str, list[Decoded]] = {}
    for path in files:
        kind = modality_of(path)
        try:
            kinds.setdefault(kind, []).append(encoder.decode(path, kind))
        except EmbedspaceError as error:
            print(f"left out: {error}")
    return kinds, since(started)


def encode_all(encoder: SegmentEncoder, kinds: dict[str, list[Decoded]], batch_size: int) -> Seconds:
    """Return the seconds that the encoders take."""
    started = now()
    for decoded in kinds.values():
        for first in range(0, len(decoded), batch_size):
            encoder.encode_decoded(decoded[first : first + batch_size])
    return since(started)


def ingest_all(encoder: SegmentEncoder, files: list[Path], batch_size: int, folder: Path) -> tuple[Seconds, int]:
    """Return the seconds of an ingest into a new catalog, its last derived file included, and the items stored."""
    started = now()
    with Catalog.create(
        folder / "bench.catalog", embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints()
    ) as catalog:
        done = ingest(catalog, list(files), encoder, batch_size=batch_size)
    return since(started), done.added + done.duplicates


def _sum(parts: list[Seconds]) -> Seconds:
    return Seconds(*(sum(column) for column in zip(*parts, strict=True)))


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--made", action="store_true", help="make small files instead")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--parts", type=int, default=4, help="times that the two take turns")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    encoder = encoder_of(given)
    decoding, encoding, ingesting = [], [], []
    stored, counts = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        if given.made:
            make_media(Path(temporary) / "media", given.files, side=200, seconds=3.0)
            files = media_files(Path(temporary) / "media", given.files)
        elif given.folder:
            files = media_files(given.folder, given.files)
        else:
            files = mixed_media(Path(temporary), given.files)
        warm_up, _ = decode_all(encoder, files[:8])
        encode_all(encoder, warm_up, given.batch_size)
        for number in range(given.parts):
            part = files[len(files) * number // given.parts : len(files) * (number + 1) // given.parts]
            kinds, seconds = decode_all(encoder, part)
            counts.update({kind: len(decoded) for kind, decoded in kinds.items()})
            decoding.append(seconds)
            encoding.append(encode_all(encoder, kinds, given.batch_size))
            kinds.clear()
            folder = Path(temporary) / f"part-{number}"
            folder.mkdir()
            seconds, done = ingest_all(encoder, part, given.batch_size, folder)
            ingesting.append(seconds)
            stored += done
    alone, whole, decoded = _sum(encoding), _sum(ingesting), _sum(decoding)
    report(
        given, "ingest", files=len(files), kinds=dict(counts), fake=given.fake, stored=stored, parts=given.parts,
        ingest_seconds=round(whole.wall, 2), encoders_alone_seconds=round(alone.wall, 2),
        decoding_alone_one_thread_seconds=round(decoded.wall, 2), files_per_second=round(len(files) / whole.wall, 1),
        throughput_ratio=round(alone.wall / whole.wall, 3),
        throughput_ratio_of_parts=[round(a.wall / b.wall, 3) for a, b in zip(encoding, ingesting, strict=True)],
        limit_ratio=0.85, processor_seconds={
            "ingest": round(whole.processor, 2), "encoders": round(alone.processor, 2),
            "decoding": round(decoded.processor, 2),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
