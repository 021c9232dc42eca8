"""A catalog and its space as an assistant uses them: search, look at an item, make something. Knows no protocol.

What an assistant writes is words or the id of an item, never a path.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.catalog import Catalog, Hit, StoredItem
from embedspace.catalog.originals import Originals
from embedspace.catalog.places import name_of
from embedspace.errors import InputError, MediaError, UnknownModalityError
from embedspace.generate.targets import Target, known_targets
from embedspace.query import ComposedQuery, Query, Source, Term, compose, embedded_source, search_composed
from embedspace.segment import modality_rows
from embedspace.space import EmbeddingSpace
from embedspace.space.fitting import fitted

__all__ = ["Asked", "Collection", "Made"]

_WHERE_SECONDS = 2.0
_SIDE = 512
_SEGMENTS = 50
_NEIGHBOURS = 5
_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Asked:
    """One term of what is asked: words, or an item of the catalog.

    Attributes:
        text: Words.
        id: Id of an item.
        weight: Below zero takes away.
        modality: Which of an item with several, such as "speech" of a recording; empty: the leading one.
    """

    text: str = ""
    id: str = ""
    weight: float = 1.0
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """Something generated: what is known of it, and its file's bytes with their media type."""

    facts: dict[str, Any]
    content: bytes
    type: str


class Collection:
    """An open catalog with the space that its vectors are of. Safe to share between threads.

    Args:
        catalog: Open, at least for reading.
        space: Encodes what is asked.
        out: Folder that generated files are kept in; None keeps none.

    Raises:
        FingerprintMismatchError: If the vectors are of another space.
    """

    def __init__(self, catalog: Catalog, space: EmbeddingSpace, out: Path | None = None) -> None:
        space = fitted(space, catalog.fingerprints)
        catalog.check_fingerprint(space.fingerprints())
        self.catalog, self.space, self.out = catalog, space, out
        self._originals = Originals(catalog)
        self._one = threading.Lock()  # one encoder or generator at a time: they share the processor

    def describe(self) -> str:
        """Return in one line what the catalog holds and what can be filtered by."""
        info = self.catalog.info()
        held = ", ".join(f"{count} {kind}" for kind, count in info.kinds.items()) or "nothing yet"
        fields = f" Fields for `where`: {', '.join(info.fields)}." if info.fields else ""
        made = f" It can make {', '.join(target.name for target in self.targets)}." if self.targets else ""
        return f"The catalog {self.catalog.path.name} holds {held}.{fields}{made}"

    @property
    def targets(self) -> list[Target]:
        """What can be made."""
        from embedspace.vocabulary import generator_targets, generators_folder

        return known_targets(generator_targets(generators_folder(self.space.folder, composed=self.space.is_composed)))

    def search(self, asked: Sequence[Asked], **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return hits, whether any is a good match, and notes.

        Args:
            asked: The terms; what they name together is searched for.
            options: `to`, `k`, `where` and `min_probability`, as `Catalog.search` takes them.

        Raises:
            InputError: If a term, an id, a modality or the filter is wrong.
        """
        composed = self._compose(asked)
        hits: list[Hit] = search_composed(self.catalog, [composed], filter_seconds=_WHERE_SECONDS, **options)[0]
        chances = [(hit.modality, hit.probability) for hit in hits]
        good = self.catalog.calibration.has_good_match(composed.modality, chances, self.catalog.sizes())
        return {
            "hits": [_hit(hit) for hit in hits],
            "good_match": good if hits else False,
            "notes": [note for note in (*composed.notes, composed.unknown_note) if note],
        }

    def look(self, item_id: str) -> tuple[dict[str, Any], bytes | None]:
        """Return what is known of an item, with its neighbours in each modality, and a small picture of it as WebP.

        Raises:
            UnknownItemError: If there is no such item.
        """
        item = self.catalog.item(item_id)
        facts: dict[str, Any] = {
            "id": item.id,
            "name": item.name,
            "uris": [place.uri for place in item.places],
            "kind": item.kind,
            "metadata": item.metadata,
            "segments": [
                {
                    "modality": one.modality,
                    "start": one.start,
                    "end": one.end,
                    **({"text": one.text} if one.text else {}),
                    **({"label": one.label} if one.label else {}),
                }
                for one in item.segments[:_SEGMENTS]
            ],
            "neighbours": {
                target: [_hit(hit) for hit in hits]
                for target, hits in self.catalog.neighbours(item, _NEIGHBOURS).items()
            },
        }
        if item.content is not None:
            said = item.content if isinstance(item.content, str) else "\n\n".join(item.content.values())
            facts["text"] = said[:_CHARACTERS]
        picture = None
        if item.kind in ("image", "video"):
            try:
                picture = self._picture(item)
            except MediaError as error:
                facts["picture"] = str(error)
        return facts, picture

    def make(
        self,
        asked: Sequence[Asked],
        to: str,
        n: int = 1,
        seed: int = 0,
        *,
        force: bool = False,
        **settings: Any,  # noqa: ANN401 - of the target's options
    ) -> list[Made]:
        """Make pictures, sounds, texts or speech.

        Args:
            asked: The terms.
            to: What to make: the name of one of `targets`.
            n: Samples.
            seed: Seed of the first.
            force: Also from what is far from everything known.
            settings: The target's options by their names in Python; None is left to the generator.

        Raises:
            OutsideError: If it is far from everything known, without `force`.
            InputError: If a term or an option is wrong.
        """
        from embedspace.generate import generate
        from embedspace.generate.base import request_of

        names = [target.name for target in self.targets]
        if to not in names:
            raise UnknownModalityError(f"to {to!r}: this space makes {', '.join(names) or 'nothing'}")
        composed, options = self._compose(asked), request_of(settings, n, seed)
        with self._one:
            samples = generate(
                self.space,
                composed.vector,
                to=to,
                modality=composed.source_modality,
                request=options,
                neighbours=3,
                force=force,
                texts=[composed.words],
            )[0]
        return [self._made(sample, composed) for sample in samples]

    def _made(self, sample: Any, composed: ComposedQuery) -> Made:  # noqa: ANN401 - its class would import torch
        from embedspace.generate.files import content_of, record_of, sample_bytes
        from embedspace.generate.targets import SUFFIXES

        record = record_of(sample, "", [dataclasses.asdict(term) for term in composed.terms])
        content, kind = sample_bytes(sample, record)
        facts = {
            "to": sample.modality,
            "seed": sample.seed,
            "text": sample.text or None,
            "nearest_training_items": record.get("neighbours", []),
            "copy": bool(record.get("near_copy") or record.get("retrieved")),
            "outside": bool(record.get("outside")),
        }
        if self.out is not None:
            facts["file"] = str(_kept(self.out, content, SUFFIXES[content_of(sample)]))
        return Made(facts, content, kind)

    def _compose(self, asked: Sequence[Asked]) -> ComposedQuery:
        if not asked:
            raise InputError("terms: none given; give words or the id of an item")
        sources = [self._source(term) for term in asked]
        given = iter(sources)
        terms = (Term(term.weight, source.value, quoted=True) for term, source in zip(asked, sources, strict=True))
        with self._one:
            return compose(Query(tuple(terms)), self.space, resolver=lambda _: next(given))

    def _source(self, term: Asked) -> Source:
        if bool(term.text.strip()) == bool(term.id):
            raise InputError("a term has either text or id")
        if term.text:
            if len(term.text) > _CHARACTERS:
                raise InputError(f"text: {len(term.text)} characters; give at most {_CHARACTERS}")
            return Source(term.text.encode("utf-8", "replace").decode(), "text")
        item = self.catalog.item(term.id)
        return embedded_source(item.name, item.kind, modality_rows(item.segments), term.modality)

    def _picture(self, item: StoredItem) -> bytes:
        from embedspace.media.thumbnail import thumbnail

        return thumbnail(self._originals.file(item), item.kind, _SIDE)


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "name": name_of(hit.uri),
        "uri": hit.uri,
        "kind": hit.kind,
        "modality": hit.modality,
        "probability": None if hit.probability is None else round(float(hit.probability), 4),
        "score": round(float(hit.score), 4),
        "start": hit.start,
        "end": hit.end,
        "text": hit.text or None,
        "label": hit.label or None,
        "metadata": hit.metadata,
    }


def _kept(folder: Path, content: bytes, suffix: str) -> Path:
    """Write a file under a name of its content; nothing that was asked for becomes part of it."""
    import hashlib

    from embedspace.files import replacing

    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror}; check the folder and its space") from None
    return path
