"""Throughput of ingest against that of the encoders alone on input that is decoded already.

    python -m eval.bench.bench_ingest                   # 2,000 mixed files of build/corpora
    python -m eval.bench.bench_ingest --folder ~/media --files 500
    python -m eval.bench.bench_ingest --made --fake     # made-up files and no encoder: the catalog's own work

The encoders get the same batches that ingest makes: items of one kind, `--batch-size` at a time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from embedspace.catalog import Catalog
from embedspace.catalog.ingest import ingest
from embedspace.errors import EmbedspaceError
from embedspace.modality import modality_of
from embedspace.segment import Decoded, SegmentEncoder
from eval.bench.common import arguments, encoder_of, make_media, media_files, report


def decode_all(encoder: SegmentEncoder, files: list[Path]) -> tuple[dict[str, list[Decoded]], float]:
    """Return the decoded files by kind, and the seconds that one thread took."""
    started = time.perf_counter()
    kinds: dict[str, list[Decoded]] = {}
    for path in files:
        kind = modality_of(path)
        try:
            kinds.setdefault(kind, []).append(encoder.decode(path, kind))
        except EmbedspaceError as error:
            print(f"left out: {error}")
    return kinds, time.perf_counter() - started


def encode_all(encoder: SegmentEncoder, kinds: dict[str, list[Decoded]], batch_size: int) -> float:
    """Return the seconds that the encoders take."""
    started = time.perf_counter()
    for decoded in kinds.values():
        for first in range(0, len(decoded), batch_size):
            encoder.encode_decoded(decoded[first : first + batch_size])
    return time.perf_counter() - started


def ingest_all(encoder: SegmentEncoder, files: list[Path], batch_size: int, folder: Path) -> tuple[float, int]:
    """Return the seconds of an ingest into a new catalog, its last derived file included, and the items stored."""
    started = time.perf_counter()
    with Catalog.create(
        folder / "bench.catalog", embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints()
    ) as catalog:
        done = ingest(catalog, list(files), encoder, batch_size=batch_size)
    return time.perf_counter() - started, done.added + done.duplicates


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--made", action="store_true", help="make small files instead")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    encoder = encoder_of(given)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder
        if given.made:
            folder = Path(temporary) / "media"
            make_media(folder, given.files, side=200, seconds=3.0)
        files = media_files(folder, given.files)
        kinds, decoding = decode_all(encoder, files)
        warm_up = {kind: decoded[: given.batch_size] for kind, decoded in kinds.items()}
        encode_all(encoder, warm_up, given.batch_size)
        encoding = encode_all(encoder, kinds, given.batch_size)
        counts = Counter({kind: len(decoded) for kind, decoded in kinds.items()})
        kinds.clear()
        seconds, stored = ingest_all(encoder, files, given.batch_size, Path(temporary))
    report(
        "ingest", files=len(files), kinds=dict(counts), fake=given.fake, stored=stored,
        ingest_seconds=round(seconds, 2), encoders_alone_seconds=round(encoding, 2),
        decoding_alone_one_thread_seconds=round(decoding, 2), files_per_second=round(len(files) / seconds, 1),
        throughput_ratio=round(encoding / seconds, 3), limit_ratio=0.85, load=round(os.getloadavg()[0], 1),
    )  # fmt: skip


if __name__ == "__main__":
    main()
