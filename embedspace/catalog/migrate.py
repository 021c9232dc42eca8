"""Bring a catalog to another encoder, encoding again only what its modalities' fingerprints say must be.

New vectors are staged beside the old ones, a batch a transaction; searches with the old encoder stay right until the
last batch, and a migration that was killed goes on where it stopped. At the end all vectors change in one transaction.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.ingest.encoding import PART, encode_each, encode_long, groups
from embedspace.catalog.ingest.reading import read_file
from embedspace.catalog.records import Failure, Progress
from embedspace.catalog.store.store import segments_digest
from embedspace.errors import EmbedspaceError, InputError, MediaError, MissingExtraError
from embedspace.segment import Decoded, Segment, SegmentEncoder

__all__ = ["MigrateReport", "migrate"]


@dataclass(slots=True)
class MigrateReport:
    """What a migration did.

    Attributes:
        modalities: Modalities whose encoder changed.
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


@dataclass(frozen=True, slots=True)
class _Task:
    item: int
    content_id: str
    kind: str
    as_modality: str
    content: str | None


def migrate(
    catalog: Catalog,
    encoder: SegmentEncoder,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> MigrateReport:
    """Encode again the items of every modality whose fingerprint differs from the encoder's.

    Args:
        catalog: An open catalog.
        encoder: The new encoder.
        batch_size: Items encoded, and staged, at a time.
        workers: Threads that read and decode; one a core, at most 4, where `None`.
        callback: Called with the progress after every batch.

    Returns:
        The report, also after Ctrl-C.

    Raises:
        InputError: If the encoder's vectors have another length than the catalog's.
        CatalogLockedError: If another process keeps writing.
        StorageFullError: If the disk is full; searches with the old encoder still work.
    """
    if encoder.embed_dim != catalog.embed_dim:
        raise InputError(
            f"{catalog.path}: holds vectors of length {catalog.embed_dim}, the encoder makes {encoder.embed_dim}; "
            "index into a new catalog"
        )
    started = time.perf_counter()
    new, old = dict(encoder.fingerprints()), catalog.fingerprints
    changed = tuple(sorted(name for name in new if old.get(name) not in (None, new[name])))
    report = MigrateReport(changed)
    run = _Migration(catalog, encoder, {name: new[name] for name in changed}, report)
    try:
        if changed:
            run.stage(batch_size, workers or min(4, os.cpu_count() or 1), callback)
        run.switch(new, encoder.calibration_json())
    except KeyboardInterrupt:
        report.interrupted = True
    report.seconds = time.perf_counter() - started
    return report


class _Migration:
    def __init__(
        self, catalog: Catalog, encoder: SegmentEncoder, digests: dict[str, str], report: MigrateReport
    ) -> None:
        self.catalog, self.store, self.encoder = catalog, catalog.store, encoder
        self.digests, self.report = digests, report
        self.done = 0
        self.marks = ",".join("?" * len(digests))

    def stage(self, batch_size: int, workers: int, callback: Callable[[Progress], None] | None) -> None:
        """Encode what must be, and put it beside what there is."""
        with self.store.writing("start the migration") as connection:  # what another encoder left is of no use
            values = list(self.digests.values())
            connection.execute(f"DELETE FROM staged WHERE digest NOT IN ({self.marks})", values)
        affected = self.store.rows(
            f"SELECT DISTINCT item FROM segments WHERE modality IN ({self.marks}) ORDER BY item", list(self.digests)
        )
        staged = {item for (item,) in self.store.rows("SELECT DISTINCT item FROM staged")}
        pending = [item for (item,) in affected if item not in staged]
        self.report.encoded = len(affected) - len(pending)
        self.report.kept = len(self.catalog) - len(affected)
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as threads:
            try:
                for first in range(0, len(pending), batch_size):
                    tasks = list(self._tasks(pending[first : first + batch_size]))
                    decoded = list(threads.map(self._decode, tasks))
                    self._batch(tasks, decoded, lambda uri, share: self._tell(callback, len(pending), uri, share))
                    self.done += len(tasks)
                    self._tell(callback, len(pending), "", 0.0)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _tasks(self, items: Sequence[int]) -> Iterator[_Task]:
        marks = ",".join("?" * len(items))
        sql = f"SELECT item, id, kind, as_modality, content FROM items WHERE item IN ({marks}) ORDER BY item"
        for row in self.store.rows(sql, items):
            yield _Task(*row)

    def _decode(self, task: _Task) -> Decoded | Failure:
        uris = [uri for (uri,) in self.store.rows("SELECT uri FROM uris WHERE item = ? ORDER BY place", (task.item,))]
        name = uris[0] if uris else task.content_id
        try:
            if task.content is None:
                return self._from_file(task, uris)
            return self.encoder.decode(json.loads(task.content), task.kind, as_modality=self._modality(task))
        except (InputError, MissingExtraError) as error:
            return Failure(name, str(error))
        except EmbedspaceError:
            raise
        except Exception as error:  # one bad file never ends a migration
            return Failure(name, f"{type(error).__name__}: {error}".splitlines()[0])

    def _from_file(self, task: _Task, uris: list[str]) -> Decoded:
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

    def _modality(self, task: _Task) -> str | None:
        """A recording whose sound and speech vectors are both here is encoded only as what changed."""
        if task.as_modality or task.kind != "audio":
            return task.as_modality or None
        rows = self.store.rows("SELECT DISTINCT modality FROM segments WHERE item = ?", (task.item,))
        affected = [name for (name,) in rows if name in self.digests]
        return affected[0] if len(rows) > 1 and len(affected) == 1 else None

    def _tell(self, callback: Callable[[Progress], None] | None, total: int, uri: str, part: float) -> None:
        if callback is not None:
            callback(
                Progress(total, self.done, self.report.encoded, len(self.report.failed), uri, total=total, part=part)
            )

    def _batch(self, tasks: list[_Task], decoded: list[Decoded | Failure], tell: Callable[[str, float], None]) -> None:
        good = [(task, one) for task, one in zip(tasks, decoded, strict=True) if isinstance(one, Decoded)]
        self.report.failed.extend(one for one in decoded if isinstance(one, Failure))
        for group in groups([len(one.inputs) for _, one in good]):
            self._group([good[at] for at in group], tell)

    def _group(self, good: list[tuple[_Task, Decoded]], tell: Callable[[str, float], None]) -> None:
        if len(good) == 1 and len(good[0][1].inputs) > PART:
            task, item = good[0]
            encoded = [encode_long(self.encoder, item, lambda share: tell(task.content_id, share))]
        else:
            encoded = encode_each(self.encoder, [one for _, one in good])
        with self.store.writing("stage new vectors") as connection:
            for (task, _), segments in zip(good, encoded, strict=True):
                rows = self._rows(task, segments)
                connection.executemany(
                    'INSERT INTO staged(item, digest, modality, start, "end", text, label, vector) '
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    ((task.item, self.digests[row[0]], *row) for row in rows),
                )
                self.report.encoded += bool(rows)

    def _rows(self, task: _Task, segments: list[Segment] | str) -> list[tuple[Any, ...]]:
        try:
            if isinstance(segments, str):
                raise InputError(segments)
            wanted = [segment for segment in segments if str(segment.modality) in self.digests]
            return [self.store.segment_row(segment, task.content_id) for segment in wanted]
        except InputError as error:
            self.report.failed.append(Failure(task.content_id, str(error)))
            return []

    def switch(self, fingerprints: dict[str, str], calibration_json: str) -> None:
        """Put the staged vectors in place of the old ones, all at once.

        Raises:
            InputError: If nothing at all could be encoded again: more likely a missing drive than an empty collection.
        """
        if self.report.failed and not self.report.encoded:
            first = self.report.failed[0]
            raise InputError(
                f"{self.catalog.path}: none of {len(self.report.failed)} items could be encoded again "
                f"({first.uri}: {first.reason}); nothing was changed. Are their files there?"
            )
        with self.store.writing("switch to the new vectors") as connection:
            condition = f"modality IN ({self.marks})"
            names = list(self.digests)
            items = [
                item for (item,) in connection.execute(f"SELECT DISTINCT item FROM segments WHERE {condition}", names)
            ]
            self.store.drop_segments(condition, names)
            for item in items:
                rows = connection.execute(
                    'SELECT modality, start, "end", text, label, vector FROM staged WHERE item = ? ORDER BY number',
                    (item,),
                ).fetchall()
                self._rewrite(item, rows)
            connection.execute("DELETE FROM staged")
            connection.execute("DELETE FROM failures")  # another decoder may read what this one could not
            connection.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", fingerprints.items())
            if calibration_json:
                connection.execute("UPDATE meta SET value = ? WHERE key = 'calibration'", (calibration_json,))
        self.catalog.touched()

    def _rewrite(self, item: int, rows: list[tuple[Any, ...]]) -> None:
        """Give an item its new segments; those of other modalities stay."""
        connection, store = self.store.connection, self.store
        kept = connection.execute(
            'SELECT s.modality, s.start, s."end", s.text, s.label, v.vector FROM segments s '
            "JOIN vectors v ON v.seq = s.seq WHERE s.item = ? ORDER BY s.seq",
            (item,),
        ).fetchall()
        if not rows and not kept:
            self.report.removed += connection.execute("DELETE FROM items WHERE item = ?", (item,)).rowcount
            return
        store.write_segments(item, rows)
        content_id = connection.execute("SELECT id FROM items WHERE item = ?", (item,)).fetchone()[0]
        ordered = [*kept, *rows]
        connection.execute("UPDATE items SET digest = ? WHERE item = ?", (segments_digest(content_id, ordered), item))
