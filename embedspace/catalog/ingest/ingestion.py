"""One ingest under way: sorting out what is new, batching it, committing it."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.ingest.counting import SourceCounter
from embedspace.catalog.ingest.encoding import PART, encode_each, encode_long, groups, is_fatal, reason_of
from embedspace.catalog.ingest.outcomes import Unindexed, catalog_item
from embedspace.catalog.ingest.pipeline import Pipeline, Prepared
from embedspace.catalog.ingest.prune import Listed, prune
from embedspace.catalog.ingest.scan import Candidate, Skipped, chunks
from embedspace.catalog.places import is_gone
from embedspace.catalog.records import CatalogItem, Failure, IngestReport, Loss, Progress
from embedspace.catalog.store.uris import (
    KnownFailure,
    KnownPlace,
    item_at,
    item_of,
    known_failures,
    known_places,
    places_of_item,
)
from embedspace.errors import InputError
from embedspace.segment import Decoded, Segment, SegmentEncoder
from embedspace.stages import stage

__all__ = ["Ingestion"]

_CHUNK = 500


class Ingestion:
    """One ingest under way; everything here runs in the calling thread."""

    def __init__(
        self,
        catalog: Catalog,
        encoder: SegmentEncoder,
        *,
        batch_size: int,
        workers: int,
        retry_failed: bool,
        callback: Callable[[Progress], None] | None,
        counter: SourceCounter,
    ) -> None:
        """Start the threads; see `ingest` for the arguments."""
        self.catalog, self.store, self.encoder = catalog, catalog.store, encoder
        self.batch_size, self.retry_failed, self.callback = max(1, batch_size), retry_failed, callback
        self.pipeline = Pipeline(encoder, self.number_of, workers, depth=2 * self.batch_size + workers)
        self.counter = counter
        self.fingerprints = encoder.fingerprints()
        self.report = IngestReport()
        self.waiting: dict[str, list[Prepared]] = {}
        self.links: list[tuple[Candidate, str]] = []
        self.twins: list[Prepared] = []
        self.failures: list[Unindexed] = []
        self.unread: set[str] = set()
        self.listed: dict[str, Listed] = {}
        self.done = 0

    def number_of(self, digest: str, as_modality: str) -> int | None:
        """Return the item with this content, unless it was encoded as another modality than is now imposed."""
        found = item_of(self.store, digest)
        return found[0] if found and as_modality in ("", found[1]) else None

    def source(self, source: str | Path, found: Iterator[Candidate | Skipped | Failure], *, prune: bool) -> None:
        """Work through one source; a manifest that turns out unreadable is one failure."""
        root = os.path.abspath(source)
        listed = self.listed.setdefault(root, Listed()) if prune else None
        try:
            for chunk in chunks(found, _CHUNK):
                if listed is not None:
                    listed.note(root, chunk)
                self.chunk(chunk)
        except InputError as error:
            self.listed.pop(root, None)  # what could not be read to its end prunes nothing
            self.report.failed.append(Failure(root, str(error)))

    def chunk(self, chunk: Iterable[Candidate | Skipped | Failure]) -> None:
        """Sort out what is new."""
        candidates = []
        for entry in chunk:
            if isinstance(entry, Skipped):
                self.report.skipped[entry.suffix] = self.report.skipped.get(entry.suffix, 0) + 1
                continue
            self.report.seen += 1
            if isinstance(entry, Failure):
                self.report.failed.append(entry)
                self.done += 1
            elif not entry.uri.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in entry.uri):
                name = os.fsencode(entry.uri).decode("utf-8", "backslashreplace")
                self.report.failed.append(Failure(name, "the file's name is not UTF-8; rename it"))
                self.done += 1
            else:
                candidates.append(entry)
        uris = [candidate.uri for candidate in candidates]
        known, failed = known_places(self.store, uris), known_failures(self.store, uris)
        for candidate in candidates:
            if not self._settled(candidate, known.get(candidate.uri), failed.get(candidate.uri)):
                for prepared in self.pipeline.submit(candidate):
                    self.take(prepared)
        self._tell(uris[-1] if uris else "")

    def _settled(self, candidate: Candidate, known: KnownPlace | None, failed: KnownFailure | None) -> bool:
        stat = (candidate.size, candidate.mtime_ns)
        if known is not None and candidate.as_modality in ("", known.as_modality):
            if known[:2] == stat and candidate.content_hash in ("", known.content_id):
                if candidate.metadata and json.loads(known.metadata) != dict(candidate.metadata):
                    # What a manifest says may change while the file does not: no need to read that.
                    self.links.append((candidate, known.content_id))
                    self._flush_if(len(self.links) >= _CHUNK)
                else:
                    self.report.unchanged += 1
                    self.done += 1
                return True
        if failed is not None and failed[:2] == stat and not self.retry_failed:
            self.report.failed.append(Failure(candidate.uri, failed.reason, known=True))
            self.done += 1
            return True
        return False

    # -- what comes out of the pipeline ------------------------------------------------------------------------------

    def take(self, prepared: Prepared) -> None:
        """Put one decoded file where it belongs."""
        if prepared.error is not None:
            if is_fatal(prepared.error):
                raise prepared.error
            self.failures.append(Unindexed(prepared, reason_of(prepared.error)))
            if not prepared.readable:
                self.unread.add(prepared.candidate.uri)
            self.pipeline.release([prepared])
            self._flush_if(len(self.failures) >= _CHUNK)
        elif prepared.twin:
            self.twins.append(prepared)
        elif prepared.decoded is None:
            self.links.append((prepared.candidate, prepared.digest))
            self._flush_if(len(self.links) >= _CHUNK)
        else:
            batch = self.waiting.setdefault(prepared.decoded.kind, [])
            batch.append(prepared)
            if len(batch) >= self.batch_size:
                self.encode(prepared.decoded.kind)
            elif self.pipeline.held > self.pipeline.budget // 2:
                self.encode_all()

    def _flush_if(self, due: bool) -> None:
        if due:
            self.commit([])

    def encode_all(self) -> None:
        """Encode whatever is waiting."""
        for kind in list(self.waiting):
            self.encode(kind)

    def encode(self, kind: str) -> None:
        """Encode and commit the items of one kind that are waiting, few inputs at a time."""
        batch = self.waiting.pop(kind, [])
        decoded = [one.decoded for one in batch if one.decoded is not None]
        for group in groups([len(one.inputs) for one in decoded]):
            self._encode_group([batch[at] for at in group], [decoded[at] for at in group])
        if not batch:
            self.commit([])

    def _encode_group(self, batch: list[Prepared], decoded: list[Decoded]) -> None:
        uri = batch[0].candidate.uri
        for prepared, item in zip(batch, decoded, strict=True):
            if item.rest is not None:
                item.progress = functools.partial(self._tell_reached, prepared.candidate.uri)
        with stage("encode"):
            if len(batch) == 1 and len(decoded[0].inputs) > PART:
                encoded = [encode_long(self.encoder, decoded[0], lambda share: self._tell(uri, share))]
            else:
                encoded = encode_each(self.encoder, decoded)
        items: list[CatalogItem] = []
        for prepared, found in zip(batch, encoded, strict=True):
            segments = found if isinstance(found, str) else self._checked(prepared, found)
            if isinstance(segments, str):
                self.failures.append(Unindexed(prepared, segments))
            else:
                items.append(catalog_item(prepared, segments))
        self.commit(items)
        self.pipeline.release(batch)

    def _checked(self, prepared: Prepared, segments: list[Segment]) -> list[Segment] | str:
        try:
            for segment in segments:
                self.store.segment_row(segment, prepared.candidate.uri)
        except InputError as error:
            return str(error)
        return segments

    def commit(self, items: list[CatalogItem]) -> None:
        """Write one batch: new items, new places of known ones, failures."""
        if not (items or self.links or self.failures):
            return
        before = [self.report.added, self.report.updated]
        links, failures = self.links, self.failures
        counts = dict.fromkeys(("added", "updated", "known", "unchanged", "moved", "duplicates"), 0)
        with stage("store"), self.store.writing("add a batch"):
            self.catalog.check_fingerprint(self.fingerprints)  # a migration may have changed the encoder meanwhile
            for item in items:
                counts[self.store.put(item, item.content_hash)] += 1
            for candidate, digest in links:
                counts[self._link(candidate, digest)] += 1
            for bad in failures:
                bad.record(self.store)
        self.links, self.failures = [], []
        self.catalog.touched()
        report = self.report
        report.added += counts["added"]
        report.updated += counts["updated"]
        report.moved += counts["moved"]
        report.duplicates += counts["duplicates"] + counts["known"]
        report.unchanged += counts["unchanged"]
        report.failed.extend(Failure(bad.prepared.candidate.uri, bad.reason) for bad in failures)
        self.done += len(items) + len(failures) + len(links)
        if [report.added, report.updated] != before or failures:
            self._tell(items[-1].uri if items else "")

    def _link(self, candidate: Candidate, digest: str) -> str:
        """Give known content one more place, inside the transaction; places where it no longer is are forgotten."""
        found = item_of(self.store, digest)
        if found is None:  # removed meanwhile by another process: the next run encodes it again
            return "unchanged"
        number = found[0]
        places = places_of_item(self.store, number)
        before = item_at(self.store, candidate.uri)
        self.store.link(
            number, candidate.uri, candidate.size, candidate.mtime_ns,
            source=candidate.manifest, metadata=candidate.metadata,
        )  # fmt: skip
        if before is not None:
            return "unchanged" if before == number else "updated"
        gone = [uri for uri, source in places if uri != candidate.uri and _surely_gone(uri, source)]
        self.store.unlink(gone)
        return "moved" if gone else "duplicates"

    def finish(self) -> None:
        """Wait for what is under way."""
        for prepared in self.pipeline.drain():
            self.take(prepared)
        self.encode_all()
        self.commit([])
        # A twin was decoded elsewhere in this run: by now that one is stored, or has failed.
        reasons = {failure.uri: failure.reason for failure in self.report.failed}
        twins, self.twins = self.twins, []
        for twin in twins:
            if self.number_of(twin.digest, "") is not None:
                self.links.append((twin.candidate, twin.digest))
            elif twin.twin in self.unread:  # that one turned out to be of other content: now it is this one's turn
                for prepared in self.pipeline.submit(twin.candidate):
                    self.take(prepared)
            else:
                self.failures.append(Unindexed(twin, reasons.get(twin.twin, f"the same content as {twin.twin}")))
        self.commit([])
        if twins:
            self.finish()

    def prune(self, sources: Iterable[str | Path], confirm: Callable[[Loss], bool] | None) -> None:
        """Forget places of these sources where nothing is any more."""
        for source in sources:
            removed, kept = prune(self.store, source, self.listed, confirm)
            self.report.removed += removed
            self.report.kept += kept
            if removed:
                self.catalog.touched()

    def _tell_reached(self, uri: str, seconds: float, total: float | None) -> None:
        self._tell(uri, min(seconds / total, 1.0) if total else 0.0)

    def _tell(self, uri: str, part: float = 0.0) -> None:
        if self.callback is not None:
            report = self.report
            changed = report.added + report.updated
            total = self.counter.total()
            self.callback(Progress(report.seen, self.done, changed, len(report.failed), uri, total, part))


def _surely_gone(uri: str, source: str | None) -> bool:
    try:
        return is_gone(uri, source)
    except OSError:
        return False
