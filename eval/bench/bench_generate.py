"""How long making takes: a picture in a batch of 8, a caption, four seconds of sound, and the cold command.

    python -m eval.bench.bench_generate                 # the shipped space and heads
    python -m eval.bench.bench_generate --repeats 5

Warm: medians in a running process, the space and the heads loaded, from vectors of known names. Cold: the wall time of
`embedspace generate --from "a violin" --to image` in a new process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from embedspace.space import EmbeddingSpace
from eval.bench.common import arguments, report

COMMAND = "import sys; from embedspace.cli import main; sys.exit(main(sys.argv[1:]))"
NAMES = ("violin", "red heart", "bicycle", "trumpet")


def median_seconds(work: Callable[[str], object], repeats: int) -> float:
    """Return the median wall time of `work`, called with a name, after one call that does not count."""
    work(NAMES[0])
    times = []
    for number in range(repeats):
        started = time.perf_counter()
        work(NAMES[number % len(NAMES)])
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def cold_seconds(weights: str | None, repeats: int) -> float:
    """Return the median wall time of the command in a process of its own."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--from", "a violin", "--to", "image", "--force", "--overwrite"]
        command = [sys.executable, "-c", COMMAND, "generate", *options]
        command += ["--out", str(Path(folder) / "violin.png"), *(["--weights", weights] if weights else [])]
        for _ in range(repeats):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args()
    space = EmbeddingSpace.from_pretrained(given.weights)

    def made(to: str, count: int = 1) -> Callable[[str], object]:
        return lambda name: space.generate(space.encode_text([name]), to=to, num_samples=count, force=True)

    report(
        given,
        "generate",
        picture_in_a_batch_of_8_seconds=round(median_seconds(made("image", 8), given.repeats) / 8, 3),
        limit_picture_seconds=2.0,
        caption_seconds=round(median_seconds(made("text"), given.repeats), 3),
        limit_caption_seconds=0.3,
        sound_of_4_seconds=round(median_seconds(made("audio"), given.repeats), 3),
        limit_sound_seconds=4.0,
        cold_command_seconds=round(cold_seconds(given.weights, given.repeats), 2),
        limit_cold_seconds=6.0,
    )


if __name__ == "__main__":
    main()
