"""How long a film takes to index, and how much memory, with and without vectors of its own.

    python -m eval.bench.bench_video                    # six minutes of 720p; --minutes 60: an hour
    python -m eval.bench.bench_video --files CLIP.mp4   # one's own film

The film is made here: 40 seconds in shots of ten, repeated. In half of them a picture of the corpora moves,
in a quarter the camera does, in a quarter only grain does. Both ways index the same file, each in a process of its
own: the space that ships, and the same without its encoder of videos, which is what there was before there was one.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageChops

from embedspace.media.image import open_image
from eval.bench.common import CORPORA, arguments, report

SIZE, FPS, SHOT, RATE = (1280, 720), 25, 10, 16_000
SECONDS, BITS = 40, 3_000_000


def write_film(path: Path, seed: int = 0) -> Path:
    """Write 40 s of film with the sounds of effects and silence between them."""
    rng = np.random.default_rng(seed)
    stamps = sorted((CORPORA / "stamps/files").rglob("*.png"))
    clips = sorted((CORPORA / "sounds").rglob("*.flac"))
    grain = [Image.fromarray(rng.integers(0, 7, (SIZE[1], SIZE[0]), np.uint8)).convert("RGB") for _ in range(4)]
    with av.open(str(path), "w") as container:
        seen = container.add_stream("libx264", rate=FPS, options={"preset": "superfast"})
        seen.width, seen.height, seen.pix_fmt, seen.bit_rate = *SIZE, "yuv420p", BITS
        heard = container.add_stream("aac", rate=RATE, layout="mono")
        for shot in range(SECONDS // SHOT):
            wide = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize((1600, 900), 3)
            with open_image(stamps[rng.integers(len(stamps))]) as opened:
                stamp = opened.convert("RGBA")
            stamp.thumbnail((360, 360))
            for index in range(SHOT * FPS):
                t = index / FPS
                left = int(26 * t) if shot % 4 == 1 else 0
                frame = wide.crop((left, 90, left + SIZE[0], 90 + SIZE[1]))
                at = (int(80 * t), int(300 * abs(np.cos(2 * t)))) if shot % 2 == 0 else (460, 200)
                frame.paste(stamp, at, stamp)
                frame = ImageChops.add(frame, grain[index % 4], offset=-3)
                container.mux(seen.encode(av.VideoFrame.from_image(frame)))
        container.mux(seen.encode(None))
        block = av.AudioFrame.from_ndarray(_sound(clips, rng)[None], format="fltp", layout="mono")
        block.sample_rate = RATE
        container.mux(heard.encode(block))
        container.mux(heard.encode(None))
    return path


def _sound(clips: list[Path], rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    from embedspace.media.audio import load_audio

    wave = np.zeros(SECONDS * RATE, np.float32)
    for start in range(0, SECONDS - SHOT, SHOT // 2):
        effect = load_audio(clips[rng.integers(len(clips))], duration=5.0, sample_rate=RATE).waveform
        wave[start * RATE : start * RATE + len(effect)] = effect
    return wave


def repeat(path: Path, times: int, out: Path) -> Path:
    """Write a film several times after another, its packets copied."""
    with av.open(str(path)) as first, av.open(str(out), "w") as target:
        tracks = {stream.index: target.add_stream_from_template(stream) for stream in first.streams}
        last = dict.fromkeys(tracks, -math.inf)
        for number in range(times):
            with av.open(str(path)) as source:
                for packet in source.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    own, shift = packet.stream.index, int(number * SECONDS / Fraction(packet.time_base))
                    if packet.dts + shift <= last[own]:  # sound lasts a moment longer than the pictures
                        continue
                    last[own] = packet.dts + shift
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = tracks[own]
                    target.mux(packet)
    return out


def index(path: Path, weights: str | None, pictures: bool) -> dict[str, Any]:
    """Index a film in this process; returns seconds, memory and what there is of it."""
    from embedspace.catalog import Catalog
    from embedspace.catalog.ingest.ingest import ingest
    from embedspace.space import EmbeddingSpace

    space = EmbeddingSpace.from_pretrained(weights)
    if pictures:
        space.modalities = tuple(name for name in space.modalities if name != "video")
    with tempfile.TemporaryDirectory() as folder:
        with Catalog.create(
            Path(folder) / "film.catalog", embed_dim=space.embed_dim, fingerprints=space.fingerprints()
        ) as catalog:
            started, used = time.perf_counter(), time.process_time()
            done = ingest(catalog, [path], space)
            wall, processor = time.perf_counter() - started, time.process_time() - used
            segments = catalog.info().segments
    return {
        "wall_s": round(wall, 1),
        "processor_s": round(processor, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "stages": {name: round(seconds, 1) for name, seconds in done.stages.items()},
        "segments": segments,
        "failed": [failure.reason for failure in done.failed],
    }


def _in_own_process(path: Path, weights: str | None, pictures: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "eval.bench.bench_video", "--files", str(path), "--once"]
    command += ["--pictures"] * pictures + (["--weights", weights] if weights else [])
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Make the film, index it both ways, print one JSON line."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=int, default=6, help="length of the film that is made")
    parser.add_argument("--files", type=Path, metavar="FILM", help="a film of one's own")
    parser.add_argument("--once", action="store_true", help="index it in this process, and nothing else")
    parser.add_argument("--pictures", action="store_true", help="with --once: without vectors of the video")
    given = parser.parse_args()
    if given.once:
        print(json.dumps(index(given.files, given.weights, given.pictures)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.files or repeat(
            write_film(Path(folder) / "part.mp4"), max(1, given.minutes * 60 // SECONDS), Path(folder) / "film.mp4"
        )
        with av.open(str(path)) as film:
            seconds = (film.duration or 0) / 1e6
        before, now = (_in_own_process(path, given.weights, pictures) for pictures in (True, False))
    result = {
        "film_s": round(seconds, 1),
        "pictures_alone": before,
        "with_video": now,
        "times_real_time": round(seconds / now["wall_s"], 1),
        "hour_minutes": round(60 * now["wall_s"] / seconds, 1),
        "hour_processor_minutes": round(60 * now["processor_s"] / seconds, 1),
        "processor_ratio": round(now["processor_s"] / before["processor_s"], 2),
    }
    report(given, "bench_video", **result)


if __name__ == "__main__":
    main()
