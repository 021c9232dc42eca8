"""Bring a catalog to another encoder, encoding again only what its modalities' fingerprints say must be.

An encoder of vectors of another length makes all of them anew. New vectors are staged beside the old ones, one
transaction per batch; searches with the old encoder stay right until the last batch, and a migration that was killed
goes on where it stopped. At the end all vectors change in one transaction.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.ingest.encoding import PART, encode_each, encode_long, groups
from embedspace.catalog.ingest.reading import read_file
from embedspace.catalog.records import Failure, Progress
from embedspace.catalog.store.staging import (
    EncodedItem,
    StoredContent,
    contents_of,
    forget_other_stages,
    modalities_of,
    pending_items,
    replace_encoder,
    spans_of,
    stage,
    use_staged,
)
from embedspace.catalog.store.uris import places_of_item
from embedspace.errors import EmbedspaceError, InputError, MediaError, MissingExtraError
from embedspace.modality import Modality, is_apart, modality_spec
from embedspace.segment import Decoded, Segment, SegmentEncoder

__all__ = ["MigrateReport", "migrate"]


_BESIDE = {
    Modality.VOICE.value: Modality.SPEECH.value,
    Modality.MOTION.value: Modality.VIDEO.value,
    Modality.ONSET.value: Modality.AUDIO.value,
}
"""Modality that is added -> items with segments of which get those of it."""


@dataclass(slots=True)
class MigrateReport:
    """What a migration did.

    Attributes:
        modalities: Modalities whose encoder changed: all of the encoder's where the length of the vectors changes.
        encoded: Items encoded again, in this run or an earlier, interrupted one.
        kept: Items that did not need it.
        failed: Items that could not be encoded again (their file is gone or changed); their old vectors of these
            modalities are dropped, since no query of the new encoder could match them.
        removed: Items that thereby had no vectors left.
        interrupted: Whether Ctrl-C ended it early; nothing has changed yet, and the next run goes on.
        seconds: Wall time.
    """

    modalities: tuple[str, ...] = ()
    encoded: int = 0
    kept: int = 0
    failed: list[Failure] = field(default_factory=list)
    removed: int = 0
    interrupted: bool = False
    seconds: float = 0.0


def migrate(
    catalog: Catalog,
    encoder: SegmentEncoder,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> MigrateReport:
    """Encode again the items of every modality whose fingerprint differs from the encoder's.

    Where the encoder knows voices and the catalog has none, items in which somebody speaks get theirs as well; so do
    videos and recordings where it knows timing.

    Where the encoder's vectors have another length than the catalog's, that is every item.

    Args:
        catalog: An open catalog.
        encoder: The new encoder.
        batch_size: Items encoded, and staged, at a time.
        workers: Threads that read and decode; one per core, at most 4, where `None`.
        callback: Called with the progress after every batch.

    Returns:
        The report, also after Ctrl-C.

    Raises:
        InputError: If nothing at all could be encoded again; nothing is changed.
        CatalogLockedError: If another process keeps writing.
        StorageFullError: If the disk is full; searches with the old encoder still work.
    """
    started = time.perf_counter()
    run = _Migration(catalog, encoder)
    try:
        if run.digests:
            with ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="decode") as threads:
                try:
                    run.stage(threads, batch_size, callback)
                    while not run.switch():  # another process added items meanwhile
                        run.stage(threads, batch_size, callback)
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        else:
            run.switch()
    except KeyboardInterrupt:
        run.report.interrupted = True
    run.report.seconds = time.perf_counter() - started
    return run.report


class _Migration:
    """One migration under way.

    Attributes:
        digests: Modality -> new fingerprint, of the modalities that are encoded again.
        replaced: The modalities whose old vectors go; all where `None`.
    """

    def __init__(self, catalog: Catalog, encoder: SegmentEncoder) -> None:
        self.catalog, self.store, self.encoder = catalog, catalog.store, encoder
        new, old = dict(encoder.fingerprints()), catalog.fingerprints
        self.resized = encoder.embed_dim != catalog.embed_dim
        self.added = tuple(name for name in new if is_apart(name) and name not in old and not self.resized)
        changed = sorted(name for name in new if self.resized or old.get(name, new[name]) != new[name])
        self.looked_at = None if self.resized else (*changed, *(_BESIDE.get(name, name) for name in self.added))
        changed = sorted({*changed, *self.added})
        self.fingerprints = new
        self.digests = {name: new[name] for name in changed}
        self.replaced = None if self.resized else tuple(changed)
        self.report = MigrateReport(tuple(changed))
        self.failed: set[int] = set()
        self.done = 0
        if self.digests:  # what another encoder left is of no use
            forget_other_stages(self.store, list(self.digests.values()))

    def _pending(self) -> tuple[list[int], int]:
        items, affected = pending_items(self.store, self.looked_at)
        return [item for item in items if item not in self.failed], affected

    def stage(self, threads: ThreadPoolExecutor, batch_size: int, callback: Callable[[Progress], None] | None) -> None:
        """Encode what must be, and put it beside what there is."""
        pending, affected = self._pending()
        self.report.encoded = affected - len(pending) - len(self.failed)
        self.report.kept = len(self.catalog) - affected
        self.done = 0

        def tell(uri: str, part: float) -> None:
            if callback is not None:
                report, total = self.report, len(pending)
                callback(Progress(total, self.done, report.encoded, len(report.failed), uri, total=total, part=part))

        for first in range(0, len(pending), batch_size):
            tasks = contents_of(self.store, pending[first : first + batch_size])
            decoded = list(threads.map(self._decode, tasks))
            good = [(task, one) for task, one in zip(tasks, decoded, strict=True) if isinstance(one, Decoded)]
            for task, one in zip(tasks, decoded, strict=True):
                if isinstance(one, Failure):
                    self._fail(task, one)
            for group in groups([len(one.inputs) for _, one in good]):
                self._encode([good[at] for at in group], tell)
            self.done += len(tasks)
            tell("", 0.0)

    def _fail(self, task: StoredContent, failure: Failure) -> None:
        self.failed.add(task.item)
        self.report.failed.append(failure)

    def _decode(self, task: StoredContent) -> Decoded | Failure:
        uris = [uri for uri, _ in places_of_item(self.store, task.item)]
        name = uris[0] if uris else task.content_id
        try:
            if task.content is None:
                return self._from_file(task, uris)
            return self.encoder.decode(json.loads(task.content), task.kind, as_modality=self._modality(task))
        except (InputError, MissingExtraError) as error:
            return Failure(name, str(error))
        except EmbedspaceError:
            raise
        except Exception as error:  # listed with its reason; the migration goes on
            return Failure(name, f"{type(error).__name__}: {error}".splitlines()[0])

    def _from_file(self, task: StoredContent, uris: list[str]) -> Decoded:
        modality = self._modality(task)

        def decode(digest: str) -> Decoded | None:
            same = digest == task.content_id
            return self.encoder.decode(Path(uri), task.kind, as_modality=modality) if same else None

        for uri in uris:
            reading = read_file(uri, task.kind, decode) if os.path.isfile(uri) else None
            if reading is not None and reading.error is not None:
                raise reading.error
            if reading is not None and reading.decoded is not None:
                return reading.decoded
        raise MediaError(f"{uris[0] if uris else task.content_id}: gone or changed since it was indexed; index it anew")

    def _modality(self, task: StoredContent) -> str | None:
        """A recording whose sound and speech vectors are both here is encoded only as what changed, or is new."""
        fit = [name for name in self.digests if name in modality_spec(task.kind).held]
        if len(fit) == 1 and len(self.added) == len(self.digests):
            return fit[0]
        if task.as_modality in self.fingerprints or task.kind != "audio" or self.resized:
            return task.as_modality if task.as_modality in self.fingerprints else None
        names = modalities_of(self.store, task.item)
        affected = [name for name in names if name in self.digests]
        return affected[0] if len(names) > 1 and len(affected) == 1 else None

    def _encode(self, good: list[tuple[StoredContent, Decoded]], tell: Callable[[str, float], None]) -> None:
        if len(good) == 1 and len(good[0][1].inputs) > PART:
            task, item = good[0]
            encoded = [encode_long(self.encoder, item, lambda share: tell(task.content_id, share))]
        else:
            encoded = encode_each(self.encoder, [one for _, one in good])
        rows = [self._rows(task, segments) for (task, _), segments in zip(good, encoded, strict=True)]
        staged = [one for one in rows if one is not None]
        stage(self.store, staged)
        self.report.encoded += len(staged)

    def _rows(self, task: StoredContent, segments: Sequence[Segment] | str) -> EncodedItem | None:
        try:
            if isinstance(segments, str):
                raise InputError(segments)
            rows = [
                (
                    self.digests[segment.modality],
                    self.store.segment_row(segment, task.content_id, self.encoder.embed_dim),
                )
                for segment in segments
                if segment.modality in self.digests and self._belongs(task, segment)
            ]
        except InputError as error:
            self._fail(task, Failure(task.content_id, str(error)))
            return None
        if not rows:  # nothing to say about it any more, such as a recording in which no speech is heard now
            self.failed.add(task.item)
            return None
        return EncodedItem(task.item, rows)

    def _belongs(self, task: StoredContent, segment: Segment) -> bool:
        """Whether a segment may be kept: a voice where the catalog has speech, unless that is made anew as well."""
        beside = _BESIDE.get(segment.modality, "")
        if not is_apart(segment.modality) or beside in self.digests:
            return True
        start, end = segment.start or 0.0, segment.end or 0.0
        return any(start < other[1] and end > other[0] for other in spans_of(self.store, task.item, beside))

    def switch(self) -> bool:
        """Put the staged vectors in place of the old ones, all at once; returns False if there is more to encode.

        Raises:
            InputError: If nothing at all could be encoded again: more likely a missing drive than an empty collection.
        """
        report = self.report
        if report.failed and not report.encoded:
            first = report.failed[0]
            raise InputError(
                f"{self.catalog.path}: none of {len(report.failed)} items could be encoded again "
                f"({first.uri}: {first.reason}); nothing was changed. Are their files there?"
            )
        with self.store.writing("switch to the new vectors"):
            if self.digests:
                if self._pending()[0]:
                    return False
                report.removed = use_staged(self.store, self.replaced)
            calibration = self.encoder.calibration_json()
            kept = not calibration and not self.digests
            replace_encoder(self.store, self.fingerprints, None if kept else calibration, self.encoder.embed_dim)
        self.catalog.touched()
        return True
