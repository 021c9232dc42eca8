"""How long a filter takes that keeps one item in a thousand: in the catalog, and in LanceDB if it is installed.

    python -m eval.bench.bench_filters --items 100000

Vectors as in `bench_scale`. Each search has a filter that was never asked before, and finds the ten nearest of what it
leaves; the catalog by its own plan and as before it had one (a look at every item), LanceDB 0.40's IVF_RQ with a
B-tree over the field. Milliseconds are processor time of the whole process, medians, all in turn; recall is against
brute force. Then the share of the time that a filter takes which is asked again after a write, and a facet's.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog import Catalog
from eval.bench.bench_scale import EMBED_DIM, K, Matrix, nearest, recall, rows_of, tables, timed, vectors
from eval.bench.common import arguments, report

Search = Callable[[Matrix, int, int], set[int]]

_EFFORTS = (8, 16, 32, 64, 128, 256)
_ROUNDS = 40


def catalog_search(catalog: Catalog, *, scan: bool) -> Search:
    """Return a search of the catalog for the rows from one number to another."""

    def search(query: Matrix, first: int, last: int) -> set[int]:
        where = f"number >= {first} and number < {last}"
        if scan:  # which has no plan: as before there was one, the metadata of each is looked at
            where = f"not (number < {first} or number >= {last})"
        hits = catalog.search(query, query_modality="text", to="image", k=K, where=where)[0]
        return rows_of(hits)

    return search


def lancedb_search(folder: Path, corpus: NDArray[np.float16]) -> tuple[Search, Callable[[int], None]]:
    """Return a search of a LanceDB table over the same rows, and what sets its effort."""
    lancedb, pa = importlib.import_module("lancedb"), importlib.import_module("pyarrow")
    flat = pa.array(np.asarray(corpus, np.float32).reshape(-1))
    made = pa.table(
        {"number": np.arange(len(corpus)), "vector": pa.FixedSizeListArray.from_arrays(flat, corpus.shape[1])}
    )
    table = lancedb.connect(folder).create_table("items", made)
    table.create_index("cosine", vector_column_name="vector", index_type="IVF_RQ")
    table.create_scalar_index("number")
    effort = {"probes": _EFFORTS[0]}

    def search(query: Matrix, first: int, last: int) -> set[int]:
        asked = table.search(query).distance_type("cosine").nprobes(effort["probes"]).refine_factor(10).limit(K)
        found = asked.where(f"number >= {first} AND number < {last}", prefilter=True).to_arrow()
        return set(found["number"].to_pylist())

    return search, lambda probes: effort.update(probes=probes)


def spans(count: int, rounds: int, seed: int) -> list[tuple[int, int]]:
    """Return ranges of a thousandth of the rows each, no two alike."""
    wide = max(count // 1000, K)
    starts = np.random.default_rng(seed).choice(count - wide, rounds, replace=False)
    return [(int(first), int(first) + wide) for first in starts]


def truths(corpus: NDArray[np.float16], queries: Matrix, ranges: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the true neighbours of each query in its range."""
    return np.concatenate(
        [nearest(corpus[a:b], query[None]) + a for query, (a, b) in zip(queries, ranges, strict=True)]
    )


def compared(searches: dict[str, Search], queries: Matrix, corpus: NDArray[np.float16]) -> dict[str, Any]:
    """Search in turn, each time with a new filter."""
    ranges = spans(len(corpus), len(queries), 1)
    truth = truths(corpus, queries, ranges)
    spent: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, list[set[int]]] = {name: [] for name in searches}
    for query, (first, last) in zip(queries, ranges, strict=True):
        for name, search in searches.items():
            milliseconds, rows = timed(lambda s=search, q=query, a=first, b=last: s(q, a, b))
            spent[name].append(milliseconds)
            found[name].append(rows)
    return {
        name: {"new_filter_ms": round(float(np.median(spent[name])), 3), "recall": round(recall(found[name], truth), 4)}
        for name in searches
    }


def again(catalog: Catalog, path: Path, queries: Matrix, corpus: NDArray[np.float16]) -> dict[str, float]:
    """Measure a remembered filter after writes, and facets."""
    where = "number < 100"

    def search() -> object:
        return catalog.search(queries[0], query_modality="text", to="image", where=where)

    search()
    spent = []
    for number in range(10):
        with Catalog.open(path) as writer:
            writer.add_many(tables(corpus[number : number + 1], "image", len(corpus) + number))
        catalog.search(queries[0], query_modality="text", to="image")  # which takes the new row in
        spent.append(timed(search)[0])
    facets, _ = timed(lambda: catalog.facets(fields=["half", "number"]))
    some, _ = timed(lambda: catalog.facets("number < 1000", fields=["half", "number"]))
    return {
        "remembered_after_a_write_ms": round(float(np.median(spent)), 3),
        "facets_of_two_fields_ms": round(facets, 2),
        "facets_of_a_thousand_items_ms": round(some, 2),
    }


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Fill a catalog and a LanceDB table, and search both."""
    corpus, texts, queries = vectors(count, folder)
    corpus, queries = corpus[:count], queries[:_ROUNDS]
    path = folder / "filters.catalog"
    with Catalog.create(path, embed_dim=EMBED_DIM, fingerprints={"image": "synthetic", "text": "synthetic"}) as made:
        made.add_many(tables(texts, "text", -len(texts)))
        made.add_many(tables(corpus, "image"))
    with Catalog.open(path, read_only=True) as catalog:
        searches = {"catalog": catalog_search(catalog, scan=False), "every item": catalog_search(catalog, scan=True)}
        facts: dict[str, Any] = {"items": count, "plan": catalog.explain("number >= 1 and number < 9")}
        if importlib.util.find_spec("lancedb") is None:
            facts["missing"] = "lancedb"
        else:
            searches["lancedb"], set_effort = lancedb_search(folder / "lance", corpus)
            facts["lancedb_probes"] = _least(searches["lancedb"], set_effort, queries, corpus)
        facts |= compared(searches, queries, corpus)
        if "lancedb" in facts:
            ratio = facts["catalog"]["new_filter_ms"] / facts["lancedb"]["new_filter_ms"]
            facts["catalog_over_lancedb"] = round(ratio, 3)
        facts["catalog_over_every_item"] = round(
            facts["catalog"]["new_filter_ms"] / facts["every item"]["new_filter_ms"], 3
        )
        return facts | again(catalog, path, queries, corpus)


def _least(search: Search, effort: Callable[[int], None], queries: Matrix, corpus: NDArray[np.float16]) -> int:
    """Set the least effort that finds .95 of the true neighbours; the greatest where none does."""
    ranges = spans(len(corpus), len(queries), 2)
    truth = truths(corpus, queries, ranges)
    for probes in _EFFORTS:
        effort(probes)
        found = [search(query, first, last) for query, (first, last) in zip(queries, ranges, strict=True)]
        if recall(found, truth) >= 0.95:
            break
    return probes


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        report(given, "filters", **measure(Path(temporary), given.items))


if __name__ == "__main__":
    main()
