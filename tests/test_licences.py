"""Licences: single sounds of the corpora, and what of them ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from embedspace.generate.latents.neighbours import Neighbours, load_neighbours
from training import notice
from training.corpora.fetch import package, packages
from training.corpora.pictures.openclipart import licence_of
from training.corpora.sounds.sound_licences import UNCLEAR, copyright_stanzas, parse_credit
from training.generators.clear_gallery import clear, shippable

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "embedspace/weights"
ABOUT: dict[str, Any] = json.loads((WEIGHTS / "licences.json").read_text("utf-8"))

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2016 Somebody
License: MIT

Files:
 samples/bell.flac
 samples/drum.flac
Copyright: 2013 One
 2014 Another
Source: https://example.org/1
License: CC0

License: CC0
 The text of the licence.
 .
 Files: that it speaks of
"""


def test_copyright_stanzas_tells_files_apart() -> None:
    every, two = copyright_stanzas(COPYRIGHT)
    assert (every.files, every.licence, every.copyright, every.source) == (("*",), "MIT", "2016 Somebody", "")
    assert two.files == ("samples/bell.flac", "samples/drum.flac")
    assert (two.licence, two.copyright, two.source) == ("CC0", "2013 One\n2014 Another", "https://example.org/1")


@pytest.mark.parametrize(
    ("words", "licence"),
    [
        ("Creative Commons Attribution-ShareAlike 3.0 Unported", "CC-BY-SA-3.0"),
        ("Creative Commons Attribution 3.0 Unported", "CC-BY-3.0"),
        ("Creative Commons Zero 1.0", "CC0-1.0"),
        ("All rights reserved", ""),
    ],
)
def test_parse_credit_tells_licences_apart(words: str, licence: str) -> None:
    found, credit = parse_credit(f'"Cow". Original "moo.wav" by "nobody". License: {words}.')
    assert found == licence
    assert credit == ('Original "moo.wav" by "nobody".' if licence else "")


def test_parse_credit_does_not_take_a_sound_of_nobody() -> None:
    title = '"Cow". Original "moo.wav" by "one" and "low.ogg". License: Creative Commons Attribution 3.0.'
    assert parse_credit(title)[0] == UNCLEAR
    assert parse_credit(title.replace("Attribution 3.0", "Zero 1.0"))[0] == "CC0-1.0"


def test_clear_takes_rows_and_names_out_and_leaves_the_rest_as_stored(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    items = [f"beeps/{number}" for number in range(80)]
    keys = torch.nn.functional.normalize(torch.randn(80, 256, generator=generator), dim=1)
    Neighbours(keys, torch.randn(80, 4, 8, 8, generator=generator), items, [item.upper() for item in items]).save(
        tmp_path
    )
    before = load_neighbours(tmp_path)
    of = {item: ("CC0-1.0", "") for item in items} | {items[3]: (UNCLEAR, ""), items[40]: ("CC-BY-SA-3.0", "me")}
    assert clear(tmp_path, ["CC0-1.0"], of) == [items[3], items[40]]
    after = load_neighbours(tmp_path)
    rows = [row for row in range(80) if row not in (3, 40)]
    assert after.items == [items[row] for row in rows]
    assert after.captions == [before.captions[row] for row in rows]
    assert torch.equal(after.keys, before.keys[rows]) and torch.equal(after.latents, before.latents[rows])
    assert clear(tmp_path, ["CC0-1.0"], of) == []


def test_clip_art_says_its_own_licence_where_it_has_one() -> None:
    rdf = b'<cc:license rdf:resource="http://%s" />'
    assert licence_of(rdf % b"web.resource.org/cc/PublicDomain") == licence_of(b"") == "CC-PDDC"
    assert licence_of(rdf % b"creativecommons.org/licenses/GPL/2.0/") == "GPL-2.0-only"


def test_the_shipped_gallery_holds_no_picture_that_says_gpl() -> None:
    items = json.loads((WEIGHTS / "heads/image/gallery.json").read_text("utf-8"))["items"]
    assert "openclipart/computer/firewall_denco_01" not in items
    assert "openclipart/computer/8port_switch_denco" not in items


def test_the_shipped_gallery_holds_no_sound_of_unclear_licence() -> None:
    items = json.loads((WEIGHTS / "heads/audio/gallery.json").read_text("utf-8"))["items"]
    assert len(items) == 814
    for name in (
        "sonicpi/loop_amen",
        "sonicpi/loop_amen_full",
        "sonicpi/perc_door",
        "opensfx/49-toyland-bubble-slurped",
    ):
        assert f"sounds-{name}" not in items


def test_every_shipped_file_says_where_it_comes_from() -> None:
    files = {path.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob("*") if path.is_file()}
    assert set(ABOUT["files"]) == files - {"licences.json", "pyproject.toml", "LICENSE", "NOTICE"}
    for path, file in ABOUT["files"].items():
        assert set(file["from"]) <= set(ABOUT["sources"]), path
        assert bool(file["from"]) == (file["kind"] != "settings"), path


def test_every_source_is_under_the_licence_that_its_package_is_pinned_with() -> None:
    used = {name for file in ABOUT["files"].values() for name in file["from"]}
    for name, source in ABOUT["sources"].items():
        assert source["packages"] == {key: package(key).licence for key in source["packages"]}, name
        parts = source["licence"].split(" AND ")
        assert set(parts) <= set(ABOUT["licences"]), name
        stated = {part for licence in source["packages"].values() for part in licence.split(" AND ")}
        # where what is used is under another licence than its package, the entry says why
        assert set(parts) == stated or "note" in source or not stated or stated < set(parts), name
        assert (name in used) == (source["use"] != "judged"), name
        if "MIT" in parts and name in used:
            assert source.get("copyright") or "MIT" not in stated, name


def test_every_pinned_package_is_named_or_makes_nothing_that_ships() -> None:
    named = {name for source in ABOUT["sources"].values() for name in source["packages"]}
    # code that is read and not used, corpora that were fetched and left out, and what only measures
    assert set(packages()) - named == {
        "asterisk-core-sounds-en-wav",
        "efficientnet-lite-pytorch",
        "gcompris-qt",
        "kdeedu-kvtml-data",
        "klettres-data",
        "tuxpaint-data",
        "wordllama",
    }


def test_every_recording_that_ships_is_named_with_its_licence() -> None:
    gallery = ABOUT["recordings"]["heads/audio/gallery.safetensors"]
    assert list(gallery) == json.loads((WEIGHTS / "heads/audio/gallery.json").read_text("utf-8"))["items"]
    for item, entry in gallery.items():
        assert entry["licence"] in shippable("audio"), item
        assert entry.get("credit") or entry["licence"] in ("CC0-1.0", "MIT"), item
    audio = json.loads((WEIGHTS / "default/config.json").read_text("utf-8"))["sections"]["audio"]
    remembered = ABOUT["recordings"]["default/audio.safetensors"]
    assert len(remembered) == audio["memory_items"]
    assert all(remembered[item]["licence"] == gallery[item]["licence"] for item in set(gallery) & set(remembered))
    assert not [item for item in remembered if item.startswith("sounds-tux/")]


def test_notice_is_what_the_list_of_licences_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = (ROOT / "NOTICE").read_text("utf-8")
    assert written == notice.render(ABOUT)
    for part in ("Copyright (c) 2022 OpenAI", "Copyright (c) Microsoft Corporation", "Frank Wen", "Miles Johnson"):
        assert part in written
    assert "Permission is hereby granted, free of charge, to any person obtaining a copy of this software" in written
    assert 'by "eliasheuninck"' in written and "https://creativecommons.org/licenses/by/3.0/legalcode" in written
    stale = tmp_path / "NOTICE"
    stale.write_text(written.replace("kokoro", "nobody"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(notice, "NOTICE", stale)
    with pytest.raises(SystemExit, match="run python -m training"):
        notice.main(["--check"])
    notice.main([])
    assert stale.read_text("utf-8") == written
    notice.main(["--check"])
