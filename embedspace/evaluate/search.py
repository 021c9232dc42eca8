"""Exact search in blocks: top-k lists and the ranks of known positives, without ever holding the whole matrix.

Ties. A top-k list puts the lower corpus index first. The rank of a positive is pessimistic: every negative whose score
is within `TIE_TOLERANCE` of it counts as ahead of it, so a collapsed space scores chance or worse, never better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError

__all__ = ["TIE_TOLERANCE", "UNRANKED", "PositiveRanks", "positive_ranks", "top_k"]

UNRANKED = int(np.iinfo(np.int64).max)
"""Rank of a positive that was never returned: its query or itself has no vector."""

TIE_TOLERANCE = 1e-6
"""Cosines closer than this are a tie: the same pair of vectors differs by about as much from one block to another."""

Lists = Sequence[Sequence[int] | NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class PositiveRanks:
    """Where each query's positives stand in the exact ranking of the corpus.

    Attributes:
        ranks: (P,) int64, 1 is best, ascending within a query; `UNRANKED` where the query or the item has no vector.
        offsets: (Q + 1,) int64; the positives of query q are `ranks[offsets[q]:offsets[q + 1]]`, at least one.
        gallery_size: Items of the corpus.
    """

    ranks: NDArray[np.int64]
    offsets: NDArray[np.int64]
    gallery_size: int

    @property
    def num_queries(self) -> int:
        """Number of queries, missing ones included."""
        return len(self.offsets) - 1

    @property
    def first(self) -> NDArray[np.int64]:
        """(Q,) rank of each query's best positive."""
        return self.ranks[self.offsets[:-1]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(Q,) number of positives of each query."""
        return np.diff(self.offsets)


def _flatten(lists: Lists, size: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (values, row of each value) of ragged index lists, each list sorted and without repeats."""
    unique = [np.unique(np.asarray(entry, dtype=np.int64)) for entry in lists]
    values = np.concatenate(unique) if unique else np.empty(0, np.int64)
    if values.size and (values.min() < 0 or values.max() >= size):
        raise InputError(f"{name}: index {values.min()}..{values.max()} outside the corpus of {size} items")
    rows = np.repeat(np.arange(len(unique)), [len(entry) for entry in unique])
    return values, rows.astype(np.int64)


def _valid(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows are vectors: finite, and not all zero; an item of several fields has one if any field has."""
    valid: NDArray[np.bool_] = np.isfinite(vectors).all(axis=-1) & (vectors != 0).any(axis=-1)
    if valid.ndim > 1:
        valid = np.logical_or.reduce(valid, axis=1)
    return valid


def _blanked(rows: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the rows with zeros for those that are not vectors."""
    return np.where(valid.reshape(-1, *[1] * (rows.ndim - 1)), rows, np.float32(0))


def _checked(
    queries: NDArray[np.float32], corpus: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both as C-ordered float32 with one width."""
    queries, corpus = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(corpus, np.float32)
    if queries.ndim != 2 or corpus.ndim not in (2, 3) or queries.shape[1] != corpus.shape[-1]:
        raise InputError(f"queries {queries.shape} and corpus {corpus.shape} must be (Q, embed_dim), (N, embed_dim)")
    if corpus.ndim == 3:
        corpus = np.where(np.isfinite(corpus).all(axis=2, keepdims=True), corpus, np.float32(0))
    return queries, corpus


def _blocks(total: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, size):
        yield start, min(start + size, total)


def _block_scores(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    valid: NDArray[np.bool_],
    start: int,
    hidden: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Score a query block against a corpus block starting at `start`; invalid and hidden items get -inf."""
    stop = start + len(corpus)
    scores = _cosines(queries, corpus)
    scores[:, ~valid] = -np.inf
    columns, rows = hidden
    here = (columns >= start) & (columns < stop)
    scores[rows[here], columns[here] - start] = -np.inf
    return scores


def _cosines(queries: NDArray[np.float32], corpus: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (q, n) cosines; with an item of several fields that of its best field, zero rows left out."""
    if corpus.ndim == 2:
        return queries @ corpus.T  # (q, embed_dim) @ (embed_dim, n) -> (q, n)
    best = np.full((len(queries), len(corpus)), -np.inf, np.float32)
    for part in range(corpus.shape[1]):
        present = (corpus[:, part] != 0).any(axis=1)
        best[:, present] = np.maximum(best[:, present], queries @ corpus[present, part].T)
    return best


def _own_cosines(queries: NDArray[np.float32], corpus: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (p,) cosines of each query with the item in the same row, that of its best field where it has several."""
    fields = corpus if corpus.ndim == 3 else corpus[:, None]
    scores = np.einsum("pd,pfd->pf", queries, fields)
    best: NDArray[np.float32] = np.where((fields != 0).any(axis=2), scores, -np.inf).max(axis=1)
    return best


def _rows_between(
    flat: tuple[NDArray[np.int64], NDArray[np.int64]], start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the part of flattened lists that belongs to rows start..stop, with rows counted from `start`."""
    values, rows = flat
    low, high = np.searchsorted(rows, [start, stop])
    return values[low:high], rows[low:high] - start


def top_k(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    k: int,
    *,
    exclude: Lists | None = None,
    query_block: int = 1024,
    corpus_block: int = 8192,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the exact k best items of each query by inner product.

    Args:
        queries: (Q, embed_dim) unit rows; a NaN or zero row is a query without a vector.
        corpus: (N, embed_dim) unit rows; a NaN or zero row is never returned.
        k: Length of a list; at most N entries exist.
        exclude: For each query the corpus indices it may not return.
        query_block: Rows of `queries` scored at once.
        corpus_block: Rows of `corpus` scored at once.

    Returns:
        ids (Q, k) int64 and scores (Q, k) float32, best first, ties by lower index; -1 and -inf where there is no item.

    Raises:
        InputError: If the shapes disagree, k < 1 or an index lies outside the corpus.
    """
    queries, corpus = _checked(queries, corpus)
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    hidden = _flatten(exclude, len(corpus), "exclude") if exclude is not None else _flatten([], len(corpus), "exclude")
    valid_queries, valid_corpus = _valid(queries), _valid(corpus)
    all_ids = np.full((len(queries), k), -1, np.int64)
    all_scores = np.full((len(queries), k), -np.inf, np.float32)
    for q0, q1 in _blocks(len(queries), query_block):
        block_hidden = _rows_between(hidden, q0, q1)
        block = np.where(valid_queries[q0:q1, None], queries[q0:q1], 0)
        for c0, c1 in _blocks(len(corpus), corpus_block):
            part = _blanked(corpus[c0:c1], valid_corpus[c0:c1])
            scores = _block_scores(block, part, valid_corpus[c0:c1], c0, block_hidden)
            ids = np.broadcast_to(np.arange(c0, c1), scores.shape)
            merged = np.concatenate([all_scores[q0:q1], scores], axis=1)
            merged_ids = np.concatenate([all_ids[q0:q1], ids], axis=1)
            # stable: an earlier column has the lower index, and wins the tie
            order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
            all_scores[q0:q1] = np.take_along_axis(merged, order, axis=1)
            all_ids[q0:q1] = np.take_along_axis(merged_ids, order, axis=1)
    nothing = ~np.isfinite(all_scores) | ~valid_queries[:, None]
    all_ids[nothing], all_scores[nothing] = -1, -np.inf
    return all_ids, all_scores


def positive_ranks(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    positives: Lists,
    *,
    exclude: Lists | None = None,
    query_block: int = 1024,
    corpus_block: int = 8192,
) -> PositiveRanks:
    """Return the exact rank of every positive of every query, ties counted against it.

    Args:
        queries: (Q, embed_dim) unit rows; a NaN or zero row is a missing query, whose positives are `UNRANKED`.
        corpus: (N, embed_dim) unit rows; a NaN or zero row is an item without a vector, behind all others. Or
            (N, fields, embed_dim), an item found by its best field; a NaN or zero row is a field that it lacks.
        positives: For each query the corpus indices that answer it, at least one.
        exclude: For each query the corpus indices taken out of its gallery; never a positive.
        query_block: Rows of `queries` scored at once.
        corpus_block: Rows of `corpus` scored at once.

    Returns:
        The `PositiveRanks`.

    Raises:
        InputError: If the shapes disagree, a query has no positive, or a positive is excluded.
    """
    queries, corpus = _checked(queries, corpus)
    if len(positives) != len(queries):
        raise InputError(f"{len(positives)} lists of positives for {len(queries)} queries")
    columns, rows = _flatten(positives, len(corpus), "positives")
    counts = np.bincount(rows, minlength=len(queries))
    if len(queries) and counts.min() == 0:
        raise InputError(f"query {int(counts.argmin())} has no positive in the corpus; leave it out and count it apart")
    hidden = _flatten(exclude or [], len(corpus), "exclude")
    if np.isin(columns + rows * len(corpus), hidden[0] + hidden[1] * len(corpus)).any():
        raise InputError("a positive is also excluded from its query's gallery")
    valid_queries, valid_corpus = _valid(queries), _valid(corpus)
    found = valid_queries[rows] & valid_corpus[columns]
    scores = np.full(len(rows), -np.inf, np.float32)
    scores[found] = _own_cosines(queries[rows[found]], corpus[columns[found]])
    off = (np.concatenate([columns, hidden[0]]), np.concatenate([rows, hidden[1]]))  # what is no negative of a query
    order = np.argsort(off[1], kind="stable")
    off = (off[0][order], off[1][order])
    ahead = _count_ahead(queries, corpus, (scores, rows), off, (query_block, corpus_block))
    return _assemble(scores, ahead, rows, found, len(queries), len(corpus))


def _count_ahead(
    queries: NDArray[np.float32],
    corpus: NDArray[np.float32],
    positives: tuple[NDArray[np.float32], NDArray[np.int64]],
    off: tuple[NDArray[np.int64], NDArray[np.int64]],
    blocks: tuple[int, int],
) -> NDArray[np.int64]:
    """Return (P,) how many negatives reach each positive's score less the tolerance; positives = (scores, rows)."""
    scores, rows = positives
    valid_queries, valid_corpus = _valid(queries), _valid(corpus)
    ahead = np.zeros(len(rows), np.int64)
    for q0, q1 in _blocks(len(queries), blocks[0]):
        p0, p1 = np.searchsorted(rows, [q0, q1])
        block = np.where(valid_queries[q0:q1, None], queries[q0:q1], 0)
        off_block = _rows_between(off, q0, q1)
        for c0, c1 in _blocks(len(corpus), blocks[1]):
            part = _blanked(corpus[c0:c1], valid_corpus[c0:c1])
            negatives = _block_scores(block, part, valid_corpus[c0:c1], c0, off_block)
            negatives.sort(axis=1)
            for p in range(p0, p1):
                row = negatives[rows[p] - q0]
                ahead[p] += len(row) - np.searchsorted(row, scores[p] - TIE_TOLERANCE, side="left")
    return ahead


def _assemble(
    scores: NDArray[np.float32],
    ahead: NDArray[np.int64],
    rows: NDArray[np.int64],
    found: NDArray[np.bool_],
    num_queries: int,
    gallery_size: int,
) -> PositiveRanks:
    """Turn negatives-ahead counts into ranks: a positive also stands behind its query's better positives."""
    order = np.lexsort((-scores, rows))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_queries))]).astype(np.int64)
    within = np.arange(len(rows)) - offsets[:-1][rows]
    ranks = np.where(found[order], ahead[order] + within + 1, UNRANKED)
    return PositiveRanks(ranks.astype(np.int64), offsets, gallery_size)
