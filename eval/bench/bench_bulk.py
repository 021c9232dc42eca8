"""How fast encoded items go into a catalog: as columns (`Catalog.add_many`) beside item by item (`Catalog.add`).

    python -m eval.bench.bench_bulk --items 100000

    python -m eval.bench.bench_bulk --items 100000 --peers lancedb   # insertion and index together, beside IVF_RQ

One thread; seconds of processor time. Both write items of 256 dimensions with three names of metadata, in turn, `add` a
tenth as many, so that neither has a quieter machine than the other. `catalog import` then reads them all from parquet.
Beside LanceDB both take the clustered vectors of `bench_scale` until they can be searched by an index, in turn, twice;
the catalog writes three names of metadata per item, LanceDB a number.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog import Catalog
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from eval.bench.bench_scale import EMBED_DIM, items, tables, timed, vectors
from eval.bench.common import arguments, report
from eval.bench.scale_peers import PEERS, missing_peers

_ROUNDS = 4
_TURNS = 2


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


def _filled(path: Path, corpus: NDArray[np.float16]) -> tuple[float, float]:
    """Return milliseconds of inserting vectors into a new catalog, and of indexing them."""
    catalog = Catalog.create(path, embed_dim=EMBED_DIM, fingerprints={"image": "synthetic"})
    insert, _ = timed(lambda: catalog.add_many(tables(corpus, "image")))
    index, _ = timed(lambda: (catalog.optimize(), catalog.close()))
    return insert, index


def beside(folder: Path, count: int, peers: list[str]) -> dict[str, Any]:
    """Insert and index the same vectors by the catalog and by peers, in turn."""
    corpus = vectors(count, folder)[0][:count]
    spent: dict[str, float] = dict.fromkeys(("catalog", *peers), 0.0)
    parts: dict[str, float] = {"insert": 0.0, "index": 0.0}
    for number in range(_TURNS):
        insert, index = _filled(folder / f"{number}.catalog", corpus)
        parts = {"insert": parts["insert"] + insert / 1e3, "index": parts["index"] + index / 1e3}
        spent["catalog"] += (insert + index) / 1e3
        for name in peers:
            spent[name] += timed(lambda name=name: PEERS[name](corpus))[0] / 1e3
    rates = {name: _TURNS * count / seconds for name, seconds in spent.items()}
    return {
        **{f"insert_and_index_{name}_per_s": round(rate) for name, rate in rates.items()},
        **{f"catalog_{name}_s": round(seconds / _TURNS, 2) for name, seconds in parts.items()},
        **{f"insert_and_index_over_{name}": round(rates["catalog"] / rates[name], 2) for name in peers},
    }


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--peers", default="", help=f"of {', '.join(PEERS)}; separated by commas")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(Path(temporary), given.items, seed=0)
        peers = [name for name in given.peers.split(",") if name]
        if peers:
            figures |= {"peers_missing": missing_peers(peers)}
            there = [name for name in peers if name not in figures["peers_missing"]]
            figures |= beside(Path(temporary), given.items, there)
        report(given, "bulk", **figures)


if __name__ == "__main__":
    main()
