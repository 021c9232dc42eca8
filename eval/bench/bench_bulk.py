"""How fast encoded items go into a catalog: as columns (`Catalog.add_many`) beside item by item (`Catalog.add`).

    python -m eval.bench.bench_bulk --items 100000

One thread; seconds of processor time. Both write items of 256 dimensions with three names of metadata, in turn, `add` a
tenth as many, so that neither has a quieter machine than the other. `catalog import` then reads them all from parquet.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog import Catalog
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from eval.bench.bench_scale import EMBED_DIM, items, tables, timed
from eval.bench.common import arguments, report

_ROUNDS = 4


def measure(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Fill two catalogs in turn."""
    rng = np.random.default_rng(seed)
    made = {"image": "synthetic"}
    spent, wrote = {"add": 0.0, "add_many": 0.0}, {"add": 0, "add_many": 0}
    with (
        Catalog.create(folder / "one.catalog", embed_dim=EMBED_DIM, fingerprints=made) as one,
        Catalog.create(folder / "many.catalog", embed_dim=EMBED_DIM, fingerprints=made) as many,
    ):
        for first in range(0, count, count // _ROUNDS):
            rows = rng.normal(size=(count // _ROUNDS, EMBED_DIM)).astype(np.float32)
            few = list(items(rows[: len(rows) // 10], "image", first))
            together = list(tables(rows, "image", first))
            for name, call in (
                ("add", lambda few=few: one.add(few)),
                ("add_many", lambda t=together: many.add_many(t)),
            ):
                milliseconds, report_ = timed(call)
                spent[name] += milliseconds / 1e3
                wrote[name] += report_.added
        close, _ = timed(many.close)
    parts = folder / "parts"
    parts.mkdir()
    with Catalog.open(folder / "many.catalog", read_only=True) as many:
        many.export(parts / "all.parquet")
    with Catalog.create(folder / "imported.catalog", embed_dim=EMBED_DIM, fingerprints=made) as imported:
        milliseconds, _ = timed(lambda: import_encoding(imported, read_encoding(parts)))
    rates = {name: wrote[name] / spent[name] for name in spent}
    return {
        "items": count,
        **{f"{name}_per_s": round(rate) for name, rate in rates.items()},
        "add_many_over_add": round(rates["add_many"] / rates["add"], 2),
        "import_parquet_per_s": round(count / (milliseconds / 1e3)),
        "close_s": round(close / 1e3, 2),
    }


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report(given, "bulk", **measure(Path(temporary), given.items, seed=0))


if __name__ == "__main__":
    main()
