"""`embedspace catalog migrate`: vectors of another space."""

from __future__ import annotations

import dataclasses

from embedspace.cli.shared.index_options import NoRecogniser
from embedspace.cli.shared.options import (
    BatchSize,
    CatalogPath,
    Device,
    Download,
    Json,
    Quiet,
    SpaceName,
    Timing,
    Voices,
    Workers,
)
from embedspace.modality import Modality

__all__ = ["migrate"]


def migrate(
    catalog: CatalogPath,
    batch_size: BatchSize = 32,
    workers: Workers = None,
    no_recogniser: NoRecogniser = False,
    voices: Voices = False,
    timing: Timing = False,
    quiet: Quiet = False,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Encode again what another encoder made: only modalities whose encoder changed.

    A space of another width encodes everything. Searches stay right meanwhile: the new vectors replace the old ones all
    at once. It may be interrupted or killed at any moment: run it again to go on.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.migrate import migrate as run
    from embedspace.cli.shared.output import Interrupted, list_failures, print_json
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_set_space
    from embedspace.space.fitting import with_extras

    with Catalog.open(catalog) as opened, ProgressReport(quiet=quiet or json) as bar:
        report = run(
            opened,
            with_extras(
                load_set_space(space_name, device, download, recogniser=not no_recogniser),
                voices=voices or Modality.VOICE in opened.fingerprints,
                timing=timing or Modality.MOTION in opened.fingerprints,
            ),
            batch_size=batch_size,
            workers=workers,
            callback=lambda now: bar.show("encoding", now),
        )
    if report.interrupted:
        raise Interrupted(
            f"interrupted; {catalog} is as it was, {report.encoded} items are encoded; run the same command to go on"
        )
    if json:
        print_json(dataclasses.asdict(report))
        return
    if not quiet and not report.modalities:
        print("nothing to do: the catalog's vectors are of this encoder")
    elif not quiet:
        print(
            f"{', '.join(report.modalities)}: {report.encoded} encoded, {report.kept} kept, {report.removed} removed, "
            f"{len(report.failed)} failed, {report.seconds:.1f} s"
        )
    list_failures([(failure.uri, failure.reason) for failure in report.failed])
