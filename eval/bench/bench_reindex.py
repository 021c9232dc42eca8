"""How long it takes to index a folder again of which nothing changed.

    python -m eval.bench.bench_reindex                  # 10,000 files in 20 folders

The encoder is a fake: an unchanged file is neither read nor encoded, so that the real one would make no difference.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from eval.bench.common import FakeEncoder, arguments, make_media, report


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    encoder = FakeEncoder()
    with tempfile.TemporaryDirectory() as temporary:
        folder, path = Path(temporary) / "media", Path(temporary) / "bench.catalog"
        make_media(folder, given.files)
        started = time.perf_counter()
        with Catalog.create(path, embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints()) as catalog:
            first = ingest(catalog, [folder], encoder)
        first_seconds = time.perf_counter() - started
        times = []
        for prune in [False] * given.runs + [True]:
            started = time.perf_counter()
            with Catalog.open(path) as catalog:
                again = ingest(catalog, [folder], encoder, prune=prune)
            times.append(round(time.perf_counter() - started, 3))
            assert (again.unchanged, again.added) == (first.added, 0)
    report(
        given, "reindex", files=given.files, seconds_median=sorted(times[:-1])[given.runs // 2],
        seconds_with_prune=times[-1], first_index_seconds_fake_encoder=round(first_seconds, 2), limit_seconds=5.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
