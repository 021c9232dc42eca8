"""One row of a table that holds a long text: the time of ingest against that of the text encoder alone.

    python -m eval.bench.bench_long_text                        # 50,000 characters of this project's own pages
    python -m eval.bench.bench_long_text --characters 1500000   # a whole book: minutes

Processor time decides: it is what a core that does nothing else would take.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from eval.bench.common import arguments, encoder_of, report

PAGES = ("README.md", "CONTRIBUTING.md", "training/LOG.md")
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--characters", type=int, default=50_000)
    given = parser.parse_args()
    words = itertools.cycle("".join((ROOT / page).read_text("utf-8") for page in PAGES).split())
    text = " ".join(itertools.islice(words, given.characters // 4))[: given.characters]
    encoder = encoder_of(given)
    encoder.encode_decoded([encoder.decode("a word, so that the weights are there", "text")])
    decoded = encoder.decode(text, "text")
    started = time.process_time()
    for part in decoded.parts(64):
        encoder.encode_decoded([part])
    alone = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.jsonl").write_text(json.dumps({"text": text}) + "\n", "utf-8")
        started = time.process_time()
        with Catalog.create(
            Path(folder) / "c", embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints()
        ) as catalog:
            done = ingest(catalog, [Path(folder) / "rows.jsonl"], encoder)
        whole = time.process_time() - started
    report(
        given, "long_text", characters=len(text), passages=len(decoded.inputs), fake=given.fake, added=done.added,
        encoder_alone_processor_seconds=round(alone, 2), ingest_processor_seconds=round(whole, 2),
        characters_per_second=round(len(text) / max(whole, 1e-9)),
        ratio=round(alone / max(whole, 1e-9), 3),
    )  # fmt: skip


if __name__ == "__main__":
    main()
