"""Single items: what is told of them, and which files are given out."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedspace.catalog import Catalog, CatalogItem
from embedspace.errors import MediaError
from embedspace.media.audio import load_audio
from embedspace.segment import Segment
from embedspace.serve.metrics import Metrics
from embedspace.serve.previews import Previews
from embedspace.serve.processes.decoding import Decoder
from embedspace.serve.settings import Limits
from tests.support.cli_media import media_folder
from tests.support.cli_space import vector_of
from tests.support.serving import Running, filled_catalog, running
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = media_folder(tmp_path_factory.mktemp("items") / "media")
    soundfile.write(folder / "long.flac", np.sin(np.arange(160_000) / 20) * np.linspace(0, 0.5, 160_000), 16_000)
    Image.linear_gradient("L").convert("RGB").resize((900, 600)).save(folder / "wide.tiff")
    write_video(folder / "clip.avi")
    return folder


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Path:
    return filled_catalog(folder.parent / "media.catalog", folder)


@pytest.fixture(scope="module")
def served(catalog: Path) -> Iterator[Running]:
    with running(catalog) as found:
        yield found


@pytest.fixture(scope="module")
def ids(catalog: Path) -> dict[str, str]:
    with Catalog.open(catalog, read_only=True) as opened:
        return {os.path.basename(uri): item.id for item in opened.items() for uri in item.uris}


def test_an_item_is_told_with_its_neighbours(served: Running, ids: dict[str, str], folder: Path) -> None:
    item = served.client.get(f"/api/items/{ids['a.txt']}").json()
    assert (item["name"], item["kind"], item["uri"]) == ("a.txt", "text", str(folder / "a.txt"))
    assert item["size"] == (folder / "a.txt").stat().st_size
    assert item["segments"][0]["text"] == "a barking dog"
    assert set(item["neighbours"]) == {"audio", "image", "speech", "text"}
    assert item["neighbours"]["speech"][0]["name"] == "speech.wav"
    assert ids["a.txt"] not in [hit["id"] for hits in item["neighbours"].values() for hit in hits]
    assert (item["thumbnail"], item["waveform"], item["preview"]) == (None, None, None)


def test_what_is_no_item_is_not_there(served: Running) -> None:
    for name in ("0" * 32, "x", "a.txt"):
        for part in ("", "/media", "/thumbnail", "/waveform", "/preview"):
            response = served.client.get(f"/api/items/{name}{part}")
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["param"]) == (404, "not_found", "id")


def test_thumbnails_are_small_webp(served: Running, ids: dict[str, str]) -> None:
    for name, size in (("wide.tiff", (64, 43)), ("dog.png", (24, 24))):
        response = served.client.get(f"/api/items/{ids[name]}/thumbnail?size=64")
        assert response.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(response.content)).size == size
        again = served.client.get(
            f"/api/items/{ids[name]}/thumbnail?size=64", headers={"If-None-Match": response.headers["etag"]}
        )
        assert again.status_code == 304
    assert served.client.get(f"/api/items/{ids['dog.png']}/thumbnail?size=5").status_code == 400


def test_a_page_finds_thumbnails_and_waveforms_ready(catalog: Path, ids: dict[str, str]) -> None:
    with running(catalog) as served:
        metrics = served.service.metrics.registry

        def made(task: str) -> float:
            return metrics.get_sample_value("embedspace_stage_seconds_count", {"stage": task}) or 0.0

        served.search({"text": "a barking dog"}, k=40)
        assert made("thumbnail") == made("waveform") == 0
        hits = served.search({"text": "a barking dog"}, k=40, prepare=40)["hits"]
        seen = {hit["thumbnail"] for hit in hits if hit["thumbnail"]}
        heard = {hit["waveform"] for hit in hits if hit["waveform"] and not hit["thumbnail"]}
        until = time.monotonic() + 30
        while (made("thumbnail"), made("waveform")) != (len(seen), len(heard)) and time.monotonic() < until:
            time.sleep(0.05)
        for address in seen | heard:
            assert served.client.get(address).status_code == 200
        assert (made("thumbnail"), made("waveform")) == (len(seen), len(heard)) and len(seen) > 2 < len(heard)
        assert served.client.post("/api/search", json={"terms": [{"text": "a"}], "prepare": 49}).status_code == 400


def test_what_several_ask_for_at_once_is_made_once(folder: Path) -> None:
    async def ask(previews: Previews, names: list[str]) -> list[object]:
        options = {"kind": "image", "size": 64, "at": 0.0}
        waiting = (previews.made((name,), folder / name, "thumbnail", options) for name in names)
        return await asyncio.gather(*waiting, return_exceptions=True)

    metrics = Metrics()
    decoder = Decoder(Limits(), metrics)
    try:
        previews = Previews(decoder, 1 << 20)
        found = asyncio.run(ask(previews, ["dog.png", "wide.tiff", "dog.png", "missing.png", "missing.png"]))
        assert found[0] == found[2] != found[1]
        assert isinstance(found[3], MediaError) and isinstance(found[4], MediaError)
        made = metrics.registry.get_sample_value("embedspace_stage_seconds_count", {"stage": "thumbnail"})
        assert made == 3
        assert previews.holds(("dog.png",)) and not previews.holds(("missing.png",))
        assert isinstance(asyncio.run(ask(previews, ["missing.png"]))[0], MediaError)  # and is tried again
    finally:
        decoder.close()


def test_decoders_start_before_the_first_file() -> None:
    decoder = Decoder(Limits(), Metrics())
    try:
        assert [worker.process for worker in decoder._workers] == [None, None]
        decoder.start()
        until = time.monotonic() + 30
        while any(worker.process is None for worker in decoder._workers) and time.monotonic() < until:
            time.sleep(0.01)
        started = [worker.process for worker in decoder._workers]
        decoder.start()
        decoder._threads.submit(lambda: None).result()
        assert None not in started and [worker.process for worker in decoder._workers] == started
    finally:
        decoder.close()


def test_a_video_shows_the_picture_of_a_time_and_plays_anywhere(
    served: Running, ids: dict[str, str], tmp_path: Path
) -> None:
    pixels = []
    for at in (0, 3):
        response = served.client.get(f"/api/items/{ids['clip.avi']}/thumbnail?at={at}")
        assert response.status_code == 200, response.text
        pixels.append(np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).mean(axis=(0, 1)))
    assert pixels[0][0] > 150 > pixels[0][2] and pixels[1][2] > 150 > pixels[1][0]  # red first, then blue
    preview = served.client.get(f"/api/items/{ids['clip.avi']}/preview")
    assert preview.headers["content-type"] == "video/webm"
    (tmp_path / "clip.webm").write_bytes(preview.content)
    import av

    with av.open(tmp_path / "clip.webm") as container:
        assert container.streams.video[0].codec_context.name == "vp8"
        assert sum(1 for _ in container.decode(video=0)) > 20


def test_a_waveform_has_the_loudness_over_time(served: Running, ids: dict[str, str]) -> None:
    found = served.client.get(f"/api/items/{ids['long.flac']}/waveform?count=50").json()
    assert found["duration"] == pytest.approx(10.0) and len(found["peaks"]) == 50
    assert max(found["peaks"]) == 1.0 and np.corrcoef(found["peaks"], np.arange(50))[0, 1] > 0.99


def test_a_preview_of_a_sound_plays_and_seeks(served: Running, ids: dict[str, str], tmp_path: Path) -> None:
    whole = served.client.get(f"/api/items/{ids['long.flac']}/preview")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/ogg")
    (tmp_path / "a.ogg").write_bytes(whole.content)
    assert load_audio(tmp_path / "a.ogg").seconds == pytest.approx(10.0, abs=0.1)
    part = served.client.get(f"/api/items/{ids['long.flac']}/preview", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    tail = served.client.get(f"/api/items/{ids['long.flac']}/preview", headers={"Range": "bytes=-10"})
    assert tail.content == whole.content[-10:]
    beyond = served.client.get(f"/api/items/{ids['long.flac']}/preview", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416


def test_the_original_comes_whole_or_in_parts(served: Running, ids: dict[str, str], folder: Path) -> None:
    content, path = (folder / "long.flac").read_bytes(), f"/api/items/{ids['long.flac']}/media"
    whole = served.client.get(path)
    assert whole.content == content and whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["etag"] == f'"{ids["long.flac"]}"'
    part = served.client.get(path, headers={"Range": "bytes=10-19", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, content[10:20])
    stale = served.client.get(path, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, content)
    assert served.client.get(path, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert served.client.get(path, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


# -- which files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Running, Path, dict[str, str]]]:
    """A server of its own, whose files a test may change."""
    folder = media_folder(tmp_path / "media")
    (tmp_path / "secret.txt").write_text("a secret\n")
    path = filled_catalog(tmp_path / "media.catalog", folder)
    with Catalog.open(path, read_only=True) as opened:
        ids = {os.path.basename(uri): item.id for item in opened.items() for uri in item.uris}
    with running(path) as served:
        yield served, folder, ids


def _status(served: Running, item: str, part: str = "media") -> int:
    return served.client.get(f"/api/items/{item}/{part}").status_code


def test_a_file_that_changed_is_gone(own: tuple[Running, Path, dict[str, str]]) -> None:
    served, folder, ids = own
    assert _status(served, ids["dog.png"]) == 200
    facts = (folder / "dog.png").stat()
    os.utime(folder / "dog.png", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    for part in ("media", "thumbnail", "preview"):
        assert _status(served, ids["dog.png"], part) == 410
    (folder / "b.txt").write_text("tall gras")
    os.utime(folder / "b.txt", ns=(facts.st_atime_ns, served.service.catalog.item(ids["b.txt"]).places[0].mtime_ns))
    assert _status(served, ids["b.txt"]) == 410
    (folder / "rain.wav").unlink()
    assert _status(served, ids["rain.wav"]) == 410 == _status(served, ids["rain.wav"], "waveform")


def test_a_link_out_of_what_was_indexed_is_not_followed(
    own: tuple[Running, Path, dict[str, str]], tmp_path: Path
) -> None:
    served, folder, ids = own
    place = served.service.catalog.item(ids["a.txt"]).places[0]
    secret = tmp_path / "secret.txt"
    secret.write_text("x" * place.size)
    os.utime(secret, ns=(place.mtime_ns, place.mtime_ns))
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(secret)
    assert _status(served, ids["a.txt"]) == 404
    (folder / "inner").mkdir()
    shutil.move(secret, folder / "inner" / "b.txt")  # a link within what was indexed is
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(folder / "inner" / "b.txt")
    assert _status(served, ids["a.txt"]) == 200


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "../secret.txt", "/tmp/../etc/passwd", "x\0y", "/dev/zero", "/proc/self/environ"]
)
def test_an_item_that_only_claims_a_place_gives_out_no_file(tmp_path: Path, place: str) -> None:
    folder = media_folder(tmp_path / "media")
    path = filled_catalog(tmp_path / "media.catalog", folder)
    with Catalog.open(path) as opened:
        opened.add([CatalogItem(place, "image", [Segment("image", vector_of("x"))], content_hash="0" * 32)])
    with running(path) as served:
        for part in ("media", "thumbnail"):
            response = served.client.get(f"/api/items/{'0' * 32}/{part}")
            assert response.status_code in (404, 410) and "root:" not in response.text


def test_an_address_is_never_fetched(tmp_path: Path) -> None:
    heard: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    heard.append(listener.accept())
                except TimeoutError:
                    pass

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.png"
        folder = media_folder(tmp_path / "media")
        (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{url}\n")
        shutil.copy(folder / "list.m3u8", folder / "list.mp4")
        (folder / "pull.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>')
        path = filled_catalog(tmp_path / "media.catalog", folder)
        with Catalog.open(path) as opened:
            opened.add([CatalogItem(url, "image", [Segment("image", vector_of("x"))], content_hash="0" * 32)])
        with running(path) as served:
            served.search({"text": url}, {"text": f"{url} - {url}", "weight": 0.5})
            post = served.client.post
            assert post("/v1/embeddings", json={"input": [{"image": url}]}).status_code == 400
            assert post("/v1/embeddings", json={"input": url}).status_code == 200
            assert post("/api/search", json={"terms": [{"ref": url}]}).status_code == 404
            assert post("/api/search", json={"terms": [{"id": url}]}).status_code == 404
            for name, kind in (("list.mp4", "video/mp4"), ("list.mp4", "audio/mpeg"), ("pull.svg", "image/png")):
                sent = post(
                    f"/api/queries?name={url}", content=(folder / name).read_bytes(), headers={"Content-Type": kind}
                )
                assert sent.status_code in (400, 415), sent.text
            for part in ("media", "thumbnail", "preview"):
                assert _status(served, "0" * 32, part) == 404
        ended.set()
        thread.join()
    assert heard == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.svg", '<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("/api/catalog")</script></svg>'),
        ("run.html", "<script>fetch('/api/catalog')</script>"),
        ("run.xhtml", "<html xmlns='http://www.w3.org/1999/xhtml'><script>1</script></html>"),
        ("run.txt", "<script>fetch('/api/catalog')</script>"),
        ("run.md", "<img src=x onerror=alert(1)>"),
    ],
)
def test_an_item_that_is_a_program_never_runs(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "media").mkdir()
    file = tmp_path / "media" / name
    file.write_text(content)
    path = filled_catalog(tmp_path / "media.catalog", tmp_path / "media")
    facts = file.stat()
    place = {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    with Catalog.open(path) as opened:
        segments = [Segment("image", vector_of("x"))]
        opened.add([CatalogItem(str(file), "image", segments, content_hash="0" * 32, **place)])
    with running(path) as served:
        response = served.client.get(f"/api/items/{'0' * 32}/media")
    assert response.text == content
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in ("text/plain", "application/octet-stream")
    if kind != "text/plain":
        assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"


def test_a_text_without_a_file_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    path = filled_catalog(tmp_path / "media.catalog", folder)
    with Catalog.open(path) as opened:
        opened.add([CatalogItem("recipes.csv#1", "text", [Segment("text", vector_of("x"))], content_hash="1" * 32,
                                content={"title": "Soup", "steps": "Boil it."})])  # fmt: skip
    with running(path) as served:
        response = served.client.get(f"/api/items/{'1' * 32}/media")
        assert response.text == "title\nSoup\n\nsteps\nBoil it."
        assert response.headers["content-type"].startswith("text/plain")
        assert served.client.get(f"/api/items/{'1' * 32}").json()["name"] == "1"
