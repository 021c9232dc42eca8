"""`embedspace search`: find anything with anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedspace.cli.shared.options import (
    AsModality,
    CatalogOrEngine,
    Device,
    Download,
    Json,
    OnlyModalities,
    Pushed,
    SearchBy,
    SpaceName,
    Timeout,
    Where,
)
from embedspace.errors import InputError
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.calibration.model import Calibration
    from embedspace.catalog import Catalog, Hit
    from embedspace.query.composition import ComposedQuery
    from embedspace.query.grammar import Query

__all__ = ["search"]


def search(
    catalog: CatalogOrEngine,
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY",
            help="Words, a file, or a composition such as '2:dog.png + rain.wav - grass'. Several queries are several "
            "searches; - reads one query per line from standard input.",
        ),
    ],
    by: SearchBy = None,
    to: OnlyModalities = None,
    as_modality: AsModality = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits a query.")] = 10,
    where: Where = None,
    min_probability: Annotated[
        float | None, typer.Option("--min-probability", min=0.0, max=1.0, help="Leave out less likely matches.")
    ] = None,
    pushed: Pushed = None,
    timeout: Timeout = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show on stderr what each term contributes, and how --where is found.")
    ] = False,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Search a catalog with words, files, or a composition of them.

    A table for people: rank, probability that it is a match, score, modality, where in the item, uri, text. A score is
    a cosine, with timing the mean of two. Without a calibration for the modalities searched there are no probabilities
    ("-", null in JSON). With --json one object per line. A search without a hit says so and exits 0.
    """
    from embedspace.cli.shared.opening import opened_catalog
    from embedspace.cli.shared.space import load_space, quick_start
    from embedspace.query.composition import compose
    from embedspace.query.grammar import parse
    from embedspace.query.searching import search_composed
    from embedspace.space.fitting import fitted

    to, as_modality = _searched_by(by, to, as_modality)
    texts = _queries(query)
    parsed = [parse(text) for text in texts]  # a query that cannot be read costs no start-up
    with opened_catalog(catalog, pushed, timeout) as opened:
        _require_voices(opened, as_modality)
        _tell_plan(opened, where if explain else None)
        with quick_start(words_only=_words_only(parsed, as_modality)):
            space = fitted(load_space(space_name, device, download), opened.fingerprints)
            opened.check_fingerprint(space.fingerprints())
            composed = [compose(one, space, as_modality=as_modality) for one in parsed]
        calibration, sizes = opened.calibration, opened.sizes()
        wanted = list(map(str, to)) if to else None
        hits = search_composed(opened, composed, k=k, to=wanted, where=where, min_probability=min_probability)
        remarks = opened.remarks(where)
        lacking = "" if all(hits) else _lacking(opened, to, min_probability)
    _tell(remarks)
    for text, one, found in zip(texts, composed, hits, strict=True):
        remark = _remark(one.modality, found, calibration, sizes, min_probability, lacking)
        _show(text, one, found, as_json=json, explain=explain, several=len(texts) > 1, remark=remark)


def _searched_by(by: str | None, to: list[str] | None, as_modality: str | None) -> tuple[list[str] | None, str | None]:
    """Return what is searched for, and what media are taken as."""
    if by is None:
        return to, as_modality
    if to or as_modality:
        raise InputError("--by says what is searched with and for; leave --to and --as away")
    return [str(by)], str(by)


def _require_voices(catalog: Catalog, as_modality: str | None) -> None:
    if as_modality == Modality.VOICE and Modality.VOICE not in catalog.info().segments:
        raise InputError(
            f"{catalog.path}: holds no voices; to add them, with the consent of who speaks: "
            f"embedspace catalog migrate {catalog.path} --voices"
        )


def _tell_plan(catalog: Catalog, where: str | None) -> None:
    if where is not None:
        _tell([f"filter: {catalog.explain(where)}"])


def _tell(remarks: Iterable[str]) -> None:
    from embedspace.cli.shared.output import note

    for line in remarks:
        note(line)


def _lacking(catalog: Catalog, to: Sequence[str] | None, threshold: float | None) -> str:
    """Say what there is not, whatever the query; empty where it is the probability that is lacking."""
    held = catalog.info().segments
    if not held:
        return f"the catalog is empty; fill it with: embedspace index PATHS --catalog {catalog.path}"
    if to and not any(str(modality) in held for modality in to):
        return f"the catalog holds no {' or '.join(to)} (--to), only {', '.join(held)}"
    return "" if threshold is not None else f"nothing in the catalog fulfils --where{' and --to' if to else ''}"


def _words_only(queries: Sequence[Query], as_modality: str | None) -> bool:
    from embedspace.query.sources import resolve

    terms = [term for query in queries for term in query.terms]
    return all(resolve(term.value, quoted=term.quoted, as_modality=as_modality).path is None for term in terms)


def _queries(arguments: Sequence[str]) -> list[str]:
    """Return one text per query: shell-split operators are put together again, "-" is standard input."""
    from embedspace.cli.shared.output import input_lines

    if list(arguments) == ["-"]:
        return input_lines()
    if any(argument in ("+", "-") for argument in arguments):
        return [" ".join(_quoted(argument) for argument in arguments)]
    return [argument.strip() if argument.startswith(" -") else argument for argument in arguments]


def _quoted(argument: str) -> str:
    """Quote an argument that the shell kept together but the grammar would take apart."""
    if argument in ("+", "-") or not any(f" {sign} " in argument for sign in "+-"):
        return argument
    return f'"{argument}"' if '"' not in argument else shlex.quote(argument)


def _show(
    text: str,
    query: ComposedQuery,
    hits: list[Hit],
    *,
    as_json: bool,
    explain: bool,
    several: bool,
    remark: str,
) -> None:
    from embedspace.cli.shared.output import note, print_json

    if explain:
        note(query.explain())
    if as_json:
        for record in _records(text, query, hits):
            print_json(record)
    elif hits:
        if several:
            print(f"# {text}")
        _print_hits(hits)
    for line in (query.unknown_note, remark):
        if line:
            note(f"{text}: {line}" if several else line)


def _remark(
    asked: str,
    hits: list[Hit],
    calibration: Calibration,
    sizes: Mapping[str, int],
    threshold: float | None,
    lacking: str,
) -> str:
    """Say plainly when nothing matches: no hit reaches the cut-off of its pair of modalities and size of gallery."""
    if not hits:
        return f"no match: {lacking}" if lacking else f"no good match: nothing reaches probability {threshold:g}"
    every = [hit.probability for hit in hits]
    chances = [chance for chance in every if chance is not None]
    if not chances:
        return "no probabilities: the catalog's space was not calibrated for these modalities; ranked by score"
    found = zip((hit.modality for hit in hits), every, strict=True)
    if not calibration.has_good_match(asked, found, sizes):
        return f"no good match: the best of these has probability {chances[0]:.2g}"
    return ""


def _records(text: str, query: ComposedQuery, hits: Iterable[Hit]) -> Iterable[dict[str, Any]]:
    for hit in hits:
        yield {
            "query": text,
            "rank": hit.rank,
            "probability": None if hit.probability is None else round(float(hit.probability), 6),
            "score": round(float(hit.score), 6),
            "modality": hit.modality,
            "kind": hit.kind,
            "uri": hit.uri,
            "start": hit.start,
            "end": hit.end,
            "label": hit.label,
            "text": hit.text,
            "metadata": hit.metadata,
            "id": hit.id,
            "unknown_words": list(query.unknown),
        }


def _print_hits(hits: Sequence[Hit]) -> None:
    from embedspace.cli.shared.output import clip, print_table, span_text

    rows = [
        (
            str(hit.rank),
            "-" if hit.probability is None else f"{hit.probability:.2f}",
            f"{hit.score:.3f}",
            str(hit.modality),
            "" if hit.modality == Modality.TEXT else span_text(hit.start, hit.end),
            clip(hit.uri, 60, keep_end=True),
            clip(f"{hit.label}: {hit.text}" if hit.label and hit.text else hit.text, 80),
        )
        for hit in hits
    ]
    print_table(("rank", "prob", "score", "modality", "at", "uri", "text"), rows, right=(0, 1, 2))
