"""Media from outside: decoded in a process with limits, whatever they are."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import struct
import time
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedspace.errors import MediaError, MediaTooLargeError
from embedspace.serve.errors import ApiError
from embedspace.serve.metrics import Metrics
from embedspace.serve.processes.decode import video
from embedspace.serve.processes.decoding import Decoder
from embedspace.serve.settings import Limits
from embedspace.serve.uploads import kind_of_upload
from tests.support.cli_media import media_folder, picture
from tests.support.serving import Running, filled_catalog, running
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = media_folder(tmp_path_factory.mktemp("decode") / "media")
    limits = Limits(query_pixels=1_000_000, query_seconds=3.0)
    with running(filled_catalog(folder.parent / "media.catalog", folder), limits=limits) as found:
        yield found


def _send(served: Running, content: bytes, kind: str, name: str = "") -> tuple[int, dict[str, object]]:
    response = served.client.post(f"/api/queries?name={name}", content=content, headers={"Content-Type": kind})
    return response.status_code, response.json()


def png_header(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that says how large it is, whatever is in it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    facts = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header(served: Running) -> None:
    for bomb in (png_header(30_000, 30_000), png_header(1001, 1000, zlib.compress(b"\0" * 3_004_000))):
        status, answer = _send(served, bomb, "image/png")
        assert (status, answer["error"]["code"]) == (413, "too_large")  # type: ignore[index]


def test_memory_is_bounded_where_a_header_lies(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.png")
    decoder = Decoder(Limits(decode_bytes=500 << 20), Metrics(), processes=1)
    try:
        with pytest.raises(MediaError, match="memory"):
            asyncio.run(decoder.run("image", str(tmp_path / "large.png"), min_side=None, max_pixels=10**9))
        about, content = asyncio.run(decoder.run("image", str(path), min_side=None, max_pixels=10**9))
        assert (about["width"], len(content)) == (24, 24 * 24 * 3)
    finally:
        decoder.close()


def test_what_takes_too_long_is_ended_and_the_next_is_decoded(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    limits = Limits(decode_seconds=20)
    decoder = Decoder(limits, Metrics(), processes=1)
    try:
        asyncio.run(decoder.run("image", str(path), min_side=None, max_pixels=10**9))
        worker = decoder._workers[0]
        first = worker.process
        assert first is not None
        soundfile.write(tmp_path / "long.flac", np.random.default_rng(0).normal(0, 0.1, 48_000 * 300), 48_000)
        worker.limits = dataclasses.replace(limits, decode_seconds=0.05)
        started = time.monotonic()
        with pytest.raises(MediaTooLargeError, match=r"longer than 0\.05 s"):
            asyncio.run(decoder.run("preview", str(tmp_path / "long.flac"), kind="audio"))
        assert time.monotonic() - started < 5 and first.poll() is not None
        worker.limits = limits
        about, _ = asyncio.run(decoder.run("image", str(path), min_side=None, max_pixels=10**9))
        assert about["width"] == 24 and worker.process is not first
    finally:
        decoder.close()
    assert worker.process is None


def test_a_decoder_that_dies_is_replaced(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    decoder = Decoder(Limits(), Metrics(), processes=1)
    try:
        for _ in range(2):
            asyncio.run(decoder.run("image", str(path), min_side=None, max_pixels=10**9))
            process = decoder._workers[0].process
            assert process is not None
            process.kill()
            process.wait()
        about, _ = asyncio.run(decoder.run("image", str(path), min_side=None, max_pixels=10**9))
        assert about["width"] == 24
    finally:
        decoder.close()


def test_a_decoder_writes_no_file(tmp_path: Path) -> None:
    decoder = Decoder(Limits(), Metrics(), processes=1)
    try:
        asyncio.run(decoder.run("image", str(picture(tmp_path / "a.png")), min_side=None, max_pixels=10**9))
        process = decoder._workers[0].process
        assert process is not None
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        rows = {line[:25].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
        assert rows["Max file size"] == rows["Max core file size"] == ["0", "0"]
        assert rows["Max address space"] == [str(2 << 30)] * 2
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"EMBEDSPACE_TOKEN" not in environment
    finally:
        decoder.close()


def test_too_many_that_wait_are_refused(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    decoder = Decoder(Limits(decodes=2), Metrics(), processes=1)

    async def all_at_once() -> list[object]:
        tasks = [decoder.run("image", str(path), min_side=None, max_pixels=10**9) for _ in range(4)]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    try:
        found = asyncio.run(all_at_once())
    finally:
        decoder.close()
    refused = [one for one in found if isinstance(one, ApiError)]
    assert [one.status for one in refused] == [429, 429] and len(found) == 4


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\nshowpage\n", "image/png"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "image/eps"),
        (b"%PDF-1.4\n", "image/png"),
        (b"P6 9 9 255\n" + b"x" * 243, "image/png"),
        (b"\x89PNG\r\n\x1a\nbroken", "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", "audio/wav"),
        (b"\0" * 1000, "audio/mpeg"),
        (b"not a video", "video/mp4"),
        (b"x", "image/jpeg"),
    ],
)
def test_what_cannot_be_decoded_is_one_error(served: Running, content: bytes, kind: str) -> None:
    status, answer = _send(served, content, kind)
    assert status == 400 and answer["error"]["message"]  # type: ignore[index]
    assert "embedspace-" not in str(answer) and "/tmp" not in str(answer)  # where it lay is nobody's business


@pytest.mark.parametrize("kind", ["image/svg+xml", "text/html", "application/pdf", "application/octet-stream", "x"])
def test_what_is_no_medium_is_refused(served: Running, kind: str) -> None:
    status, answer = _send(served, b"<html>", kind, "a.html")
    assert (status, answer["error"]["code"]) == (415, "unsupported_media_type")  # type: ignore[index]


def test_the_kind_comes_from_the_type_or_the_name() -> None:
    assert kind_of_upload("image/x-unheard-of", "") == "image"
    assert kind_of_upload("audio/webm; codecs=opus", "a.png") == "audio"
    assert kind_of_upload("application/octet-stream", "../../Holiday.MP4") == "video"
    assert kind_of_upload("application/octet-stream", "a.txt") == "text"
    with pytest.raises(ApiError):
        kind_of_upload("application/octet-stream", "a.svg")


def test_an_empty_body_is_refused(served: Running) -> None:
    status, answer = _send(served, b"", "image/png")
    assert status == 400 and "empty" in answer["error"]["message"]  # type: ignore[index]


def test_a_recording_is_heard_from_its_start_for_a_while(served: Running) -> None:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.sin(np.arange(2 * 8000 * 10) / 9) * 9000).astype("<i2").tobytes())
    status, answer = _send(served, written.getvalue(), "audio/wav", "a.wav")
    assert status == 201
    assert (answer["kind"], answer["duration"]) == ("audio", 3.0)
    assert answer["modalities"] == ["speech", "audio"]
    for modality in ("speech", "audio"):
        found = served.search({"ref": answer["ref"], "as": modality}, k=1)
        assert found["terms"][0]["as"] == modality
    refused = served.client.post("/api/search", json={"terms": [{"ref": answer["ref"], "as": "image"}]})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "as"


def test_a_video_is_its_pictures_and_its_sound(served: Running, tmp_path: Path) -> None:
    status, answer = _send(served, write_video(tmp_path / "a.mp4").read_bytes(), "video/mp4", "a.mp4")
    assert status == 201, answer
    assert answer["kind"] == "video" and set(answer["modalities"]) == {"image", "audio", "speech"}  # type: ignore[arg-type]


def test_a_video_is_sent_as_moments_few_of_which_are_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", seconds=12.0)
    about, content = video(path, seconds=11.0, max_pixels=10**6, per_second=4.0, still=0.03)
    starts = [moment["start"] for moment in about["moments"]]
    assert starts == pytest.approx([k / 4 for k in range(44)], abs=0.06) and about["seen"] == 11.0
    assert [round(m["start"]) for m in about["moments"] if m["picture"]] == [0, 10]
    assert [round(m["start"]) for m in about["moments"] if m["size"]] == [0, 6, 10]  # red, blue, and the second picture
    sound = len(content) - sum(3 * m["size"][0] * m["size"][1] for m in about["moments"] if m["size"])
    assert sound == pytest.approx(4 * about["rate"] * about["seconds"], rel=1e-3)
    longer, _ = video(path, seconds=11.0, max_pixels=10**6, per_second=40.0, still=0.0)
    assert len(longer["moments"]) <= 66


def test_a_text_file_is_its_words(served: Running) -> None:
    status, answer = _send(served, "\ufefftall grass".encode(), "application/octet-stream", "a.txt")
    assert status == 201 and answer["kind"] == "text"
    assert served.search({"ref": answer["ref"]})["hits"][0]["name"] == "b.txt"


def test_what_is_kept_is_forgotten(tmp_path: Path) -> None:
    folder = media_folder(tmp_path / "media")
    with running(filled_catalog(tmp_path / "c", folder), limits=Limits(kept_seconds=0.5)) as served:
        status, answer = _send(served, (folder / "dog.png").read_bytes(), "image/png")
        assert status == 201 and served.search({"ref": answer["ref"]})
        time.sleep(0.6)
        response = served.client.post("/api/search", json={"terms": [{"ref": answer["ref"]}]})
        assert (response.status_code, response.json()["error"]["param"]) == (404, "ref")
