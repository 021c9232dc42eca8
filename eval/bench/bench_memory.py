"""Peak memory of an ingest, in a process of its own.

python -m eval.bench.bench_memory                           # 2,000 mixed files of build/corpora
python -m eval.bench.bench_memory --hour --huge             # and an hour of sound and a picture of 170 megapixels
python -m eval.bench.bench_memory --fake --made --files 50000
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from eval.bench.common import arguments, make_media, media_files, mixed_media, png, report, wav

CHILD = """
import sys
from pathlib import Path
from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from eval.bench.common import arguments, encoder_of
parser = arguments(None)
parser.add_argument("--catalog", type=Path)
parser.add_argument("--list", type=Path)
given = parser.parse_args()
encoder = encoder_of(given)
sources = given.list.read_text(encoding="utf-8").splitlines()
with Catalog.create(given.catalog, embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints()) as catalog:
    done = ingest(catalog, sources, encoder)
assert done.added, done
print(done.added, len(done.failed), *[failure.reason for failure in done.failed[:5]], file=sys.stderr)
"""


def extremes(folder: Path, *, hour: bool, huge: bool) -> list[Path]:
    """Write an hour of noise and a picture just below the limit."""
    made = []
    if hour:
        made.append(folder / "hour.wav")
        made[-1].write_bytes(wav(np.random.default_rng(0).normal(size=3600 * 16000).astype(np.float32) * 0.1))
    if huge:
        made.append(folder / "huge.png")
        pixels = np.zeros((13000, 13000, 3), np.uint8)
        pixels[::7] = 200
        made[-1].write_bytes(png(pixels))
    return made


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--made", action="store_true", help="make small files instead")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--hour", action="store_true", help="add an hour of sound")
    parser.add_argument("--huge", action="store_true", help="add a picture of 169 megapixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.made:
            make_media(folder / "media", given.files)
            sources = [folder / "media"]
        else:
            sources = media_files(given.folder, given.files) if given.folder else mixed_media(folder, given.files)
        sources += extremes(folder, hour=given.hour, huge=given.huge)
        (folder / "list").write_text("\n".join(map(str, sources)), encoding="utf-8")
        command = [sys.executable, "-c", CHILD, "--catalog", str(folder / "c.catalog"), "--list", str(folder / "list")]
        command += ["--fake"] if given.fake else []
        command += ["--weights", given.weights] if given.weights else []
        subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    report(
        given, "memory", files=given.files, fake=given.fake, hour=given.hour, huge=given.huge,
        peak_megabytes=round(peak), limit_megabytes=2048,
    )  # fmt: skip


if __name__ == "__main__":
    main()
