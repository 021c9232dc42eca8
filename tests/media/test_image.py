from __future__ import annotations

import ast
import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.image import FORMATS, decoded_image, flatten, load_image
from embedspace.media.memory import MemoryGate
from embedspace.media.pixels import reduced, reduction, to_colour
from embedspace.media.write import write_image

ROOT = Path(__file__).resolve().parents[2]


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _bomb(width: int, height: int) -> bytes:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _png_chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_load_image_reads_every_format_as_rgb(picture: Image.Image, kind: str) -> None:
    pixels = flatten(load_image(_bytes(picture, kind)))
    assert pixels.shape == (32, 48, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels[16, 4].astype(int) - (255, 0, 0)).max() < 40
    assert np.abs(pixels[16, 44].astype(int) - (0, 0, 255)).max() < 40


def test_load_image_turns_upright_by_exif(picture: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    path = tmp_path / "turned.jpg"
    picture.save(path, exif=exif, quality=95)
    image = load_image(path)
    assert image.size == (32, 48)
    pixels = flatten(image)
    assert pixels[4, 16, 0] > 200 and pixels[44, 16, 2] > 200  # left becomes top


def test_load_image_ignores_broken_exif(picture: Image.Image) -> None:
    data = _bytes(picture, "JPEG", exif=b"Exif\0\0garbage that is no TIFF header")
    assert load_image(data).size == (48, 32)


def test_load_image_draft_keeps_min_side(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (1600, 1200), (10, 200, 30)).save(path)
    small = load_image(path, min_side=256)
    assert small.size == (400, 300)
    assert load_image(path).size == (1600, 1200)
    assert np.abs(flatten(small)[5, 5].astype(int) - (10, 200, 30)).max() < 6


def test_load_image_takes_first_frame_of_animations() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = _bytes(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
        assert tuple(flatten(load_image(data))[8, 8]) == (255, 0, 0), kind


def test_flatten_composites_alpha_on_the_background() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (200, 0, 0, 128))
    pixels = flatten(load_image(_bytes(image, "PNG")))
    assert tuple(pixels[3, 3]) == (255, 255, 255)
    assert np.abs(pixels[0, 0].astype(int) - (227, 127, 127)).max() <= 1
    assert tuple(flatten(image, background=(0, 0, 9))[3, 3]) == (0, 0, 9)


def test_load_image_palette_with_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    image.putpixel((0, 0), 0)
    pixels = flatten(load_image(_bytes(image, "PNG", transparency=0)))
    assert tuple(pixels[0, 0]) == (255, 255, 255) and tuple(pixels[1, 1]) == (0, 255, 0)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_load_image_takes_every_mode(mode: str) -> None:
    if mode == "F":
        image = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    elif mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    elif mode == "I":
        image = Image.fromarray(np.full((8, 8), 32768, np.int32))
    else:
        image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    loaded = load_image(image)
    assert loaded.mode == ("RGBA" if mode in ("LA", "RGBA") else "RGB")
    expected = 128 if mode in ("I;16", "I", "F") else 255
    assert np.abs(flatten(loaded).astype(int) - expected).max() <= 2


def test_load_image_16_bit_png_is_not_clipped_to_white(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)).save(path)
    grey = flatten(load_image(path))[..., 0].ravel()
    assert np.abs(grey.astype(int) - np.linspace(0, 255, 64)).max() <= 1


def test_load_image_cmyk_jpeg_has_true_colours() -> None:
    data = _bytes(Image.new("RGB", (32, 32), (0, 160, 80)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(flatten(load_image(data, min_side=8))[2, 2].astype(int) - (0, 160, 80)).max() < 8


def test_load_image_refuses_a_bomb_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_bomb(60000, 60000))
    with pytest.raises(MediaTooLargeError, match=r"bomb\.png: 60000 x 60000 = 3,600,000,000 pixels.*178,000,000"):
        load_image(path)
    with pytest.raises(MediaTooLargeError, match="at most 100"):
        load_image(Image.new("RGB", (20, 20)), max_pixels=100)


def test_load_image_large_but_allowed_gives_no_warning_and_keeps_the_limit() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match="truncated"):
            load_image(_bomb(12000, 9000))
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_load_image_truncated_file_is_one_clear_error(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    whole = _bytes(Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for share in (0.02, 0.3, 0.7):
        path.write_bytes(whole[: max(int(len(whole) * share), 9)])
        with pytest.raises(MediaError) as caught:
            load_image(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_load_image_survives_random_damage(rng: np.random.Generator, picture: Image.Image) -> None:
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = np.frombuffer(_bytes(picture, kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 12)] = rng.integers(0, 256, 12)
            try:
                image = load_image(damaged.tobytes(), max_pixels=1_000_000)
            except MediaError:
                continue
            assert image.mode in ("RGB", "RGBA")


def test_load_image_says_what_is_wrong(tmp_path: Path) -> None:
    words = tmp_path / "words.png"
    words.write_text("not a picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(MediaError, match=r"missing\.png: no such file"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(MediaError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(MediaError, match=r"words\.png: not an image that can be read \(none of the formats"):
        load_image(words)
    with pytest.raises(EmptyMediaError, match="0 bytes"):
        load_image(empty)
    with pytest.raises(EmptyMediaError, match="no bytes"):
        load_image(b"")
    with pytest.raises(EmptyMediaError, match="every pixel is transparent"):
        load_image(Image.new("RGBA", (3, 3), (9, 9, 9, 0)))
    with pytest.raises(MediaError, match="shape"):
        load_image(np.zeros((3, 3, 5), np.uint8))
    with pytest.raises(MediaError, match="NaN"):
        load_image(Image.fromarray(np.full((2, 2), np.nan, np.float32)))


def test_load_image_leaves_the_callers_image_open(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture.save(path)
    with Image.open(path) as mine:
        assert load_image(mine).size == (48, 32)
        assert mine.getpixel((0, 0)) == (255, 0, 0)


def test_load_image_works_in_threads(picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture.save(path)
    limit = Image.MAX_IMAGE_PIXELS
    sizes: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda: sizes.append(load_image(path).size)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(48, 32)] * 16 and limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_write_image_keeps_pixels_and_metadata(suffix: str, picture: Image.Image, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"out{suffix}", np.asarray(picture), {"prompt": "Bär + rain"})
    assert load_image(path).size == (48, 32)
    with Image.open(path) as image:
        note = image.text["prompt"] if suffix == ".png" else image.getexif()[0x010E]  # type: ignore[attr-defined]
    assert "rain" in note
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_write_image_failure_leaves_nothing_behind(picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be written"):
        write_image(tmp_path / "missing" / "a.png", picture)
    with pytest.raises(MediaError, match=r"cannot write \.xyz; use \.png"):
        write_image(tmp_path / "a.xyz", picture)
    assert list(tmp_path.iterdir()) == []


def test_load_image_of_an_image_is_another_one_with_the_same_pixels() -> None:
    given = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    loaded = load_image(given)
    assert loaded is not given
    assert loaded.tobytes() == given.tobytes()


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "DDS", "SGI", "EPS"])
def test_load_image_refuses_other_formats_under_a_good_name(kind: str, picture: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    picture.save(path, kind)
    with pytest.raises(MediaError, match=r"picture\.png: not an image that can be read.*WebP.*convert it to PNG"):
        load_image(path)


@pytest.mark.parametrize("head", [b"8BPS\0\1" + bytes(60), b"SIMPLE  =                    T" + bytes(2880)])
def test_load_image_refuses_photoshop_and_fits(head: bytes) -> None:
    with pytest.raises(MediaError, match="none of the formats"):
        load_image(head)


def test_load_image_runs_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's EPS plug-in runs whatever is called gs on the PATH."""
    ran = tmp_path / "ran"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    evil = tmp_path / "evil.png"
    evil.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(MediaError, match=r"evil\.png"):
        load_image(evil)
    assert not ran.exists()


def test_images_are_opened_in_one_place_only() -> None:
    """`open_image` names the formats: no other code calls Pillow's `open`."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("embedspace", "training", "eval")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "Image.open(" in (text := path.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open")
        if not any(keyword.arg == "formats" for keyword in node.keywords)
    ]
    assert found == []
    assert set(FORMATS) == {"PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"}


def test_decoded_image_tells_the_size_of_the_original(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (1600, 1200), (10, 200, 30)).save(tmp_path / "a.jpg", exif=exif)
    with decoded_image(tmp_path / "a.jpg", min_side=288) as picture:
        assert (picture.width, picture.height) == (1200, 1600)
        assert picture.image.size == (300, 400)
    Image.new("RGB", (30, 20), (10, 200, 30)).save(tmp_path / "a.tif", exif=exif)
    with decoded_image(tmp_path / "a.tif") as picture:
        assert (picture.width, picture.height) == picture.image.size == (20, 30)


def test_load_image_turned_once_only(picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = load_image(_bytes(picture, "PNG", exif=exif))
    assert upright.size == (32, 48)
    assert load_image(upright).size == (32, 48)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_reduced_is_what_converting_the_whole_gives(mode: str, rng: np.random.Generator) -> None:
    """In strips: 1,250 rows of 1,000 pixels are two of them."""
    noise = rng.integers(0, 256, (1250, 1000, 4), dtype=np.uint8)
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        image = Image.fromarray((noise[..., 0].astype(kinds[mode]) * 200).astype(kinds[mode]))
    else:
        image = (
            Image.fromarray(noise).convert(mode) if mode != "CMYK" else Image.fromarray(noise[..., :3]).convert(mode)
        )
    assert image.mode == mode
    small, whole = reduced(image, 4, "it"), to_colour(image, "it").reduce(4)
    assert small.size == (250, 313) and small.mode == whole.mode
    assert np.array_equal(np.asarray(small), np.asarray(whole))


def test_reduction_keeps_ordinary_pictures_and_the_shorter_side() -> None:
    assert reduction((8000, 4000), 288) == 1  # 32 megapixels
    assert reduction((8001, 4000), 288) == 2
    assert reduction((13300, 13300), 288) == 4
    assert reduction((178_000_000 // 400, 400), 288) == 1
    assert reduction((178_000_000 // 600, 600), 288) == 2


def test_decoded_image_refuses_what_takes_too_much_memory(
    picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedspace.media.image.MAX_DECODING_BYTES", 48 * 32 * 19)
    assert load_image(_bytes(picture, "PNG")).size == (48, 32)
    with pytest.raises(MediaTooLargeError, match=r"decoding 48 x 32 pixels of WEBP takes .* GB.*convert it to PNG"):
        load_image(_bytes(picture, "WEBP"))


def test_memory_gate_holds_no_more_than_its_capacity_and_serves_in_order() -> None:
    gate = MemoryGate(100)
    held, most, order = [0], [0], list[int]()
    lock = threading.Lock()

    def work(number: int, nbytes: int) -> None:
        with gate.hold(nbytes):
            with lock:
                order.append(number)
                held[0] += nbytes
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.002)
            with lock:
                held[0] -= nbytes

    sizes = [40, 40, 40, 500, 40, 40, 90] * 3
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sizes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(order) == list(range(len(sizes)))
    assert most[0] == 500  # the one that is larger than the gate was alone


def test_decoded_image_takes_large_pictures_one_at_a_time(tmp_path: Path) -> None:
    """Four threads, 50 megapixels each, which are 200 MB in memory; the file is a hole."""
    side = 7072
    size = 54 + 3 * side * side
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.write(struct.pack("<2sIHHI", b"BM", size, 0, 0, 54))
        file.write(struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0))
        file.truncate(size)
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
from embedspace.media.image import decoded_image
def read(path):
    with decoded_image(path, min_side=288) as picture:
        return picture.width, picture.image.size
with ThreadPoolExecutor(4) as threads:
    assert list(threads.map(read, [sys.argv[1]] * 4)) == [(7072, (3536, 3536))] * 4
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])  # ru_maxrss begins with that of the parent
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout) // 1024 < 400  # MiB; all at once takes more than 700


def test_load_image_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff, a C library, would."""
    for kind in ("tiff_lzw", "tiff_adobe_deflate"):
        whole = bytearray(_bytes(Image.effect_noise((64, 64), 50), "TIFF", compression=kind))
        whole[30:200] = b"\xff" * 170
        with pytest.raises(MediaError, match="damaged"):
            load_image(bytes(whole))
    assert capfd.readouterr() == ("", "")
