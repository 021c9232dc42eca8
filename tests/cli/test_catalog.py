from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedspace.catalog.catalog import Catalog
from tests.support.cli_media import Run, make_run, media_folder
from tests.support.cli_space import DIM, CliSpace


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    """A folder of media, indexed as ./c."""
    monkeypatch.chdir(tmp_path)
    folder = media_folder(tmp_path / "media")
    assert run("index", folder, "--catalog", "c", "--quiet").code == 0
    return folder


def test_info_for_people_and_programs(run: Run, media: Path) -> None:
    lines = run("catalog", "info", "c").out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["items"] == "6: audio 2, image 2, text 2"
    assert facts["segments"] == "audio 2, image 2, speech 1, text 2"
    assert facts["calibrated"] == "yes"
    record = json.loads(run("catalog", "info", "c", "--json").out)
    assert (record["items"], record["embed_dim"], record["failures"]) == (6, DIM, [])


def test_info_lists_failures(run: Run, media: Path) -> None:
    (media / "bad.png").write_bytes(b"x")
    run("index", media, "--catalog", "c")
    assert "bad.png" in run("catalog", "info", "c").err


def test_add_files_and_words_with_metadata(run: Run, media: Path) -> None:
    result = run("catalog", "add", "c", "media/dog.png", "a red door", "--meta", "year=2020", "--meta", "who=me")
    assert result.code == 0
    assert result.out == "1 added, 0 updated, 1 known already, 0 failed\n"
    (hit,) = run("search", "c", "a red door", "-k", "1", "--json").out.splitlines()
    assert json.loads(hit)["text"] == "a red door"
    assert json.loads(hit)["metadata"] == {"year": 2020, "who": "me"}
    assert len(run("search", "c", "x", "--where", "year = 2020", "--json").out.splitlines()) == 2
    assert run("catalog", "add", "c", "a red door").out.startswith("0 added, 0 updated, 1 known")


def test_add_lists_bad_items(run: Run, media: Path) -> None:
    Path("cut.png").write_bytes(b"x")
    result = run("catalog", "add", "c", "cut.png", "some words")
    assert result.code == 0
    assert "1 added, 0 updated, 0 known already, 1 failed" in result.out
    assert "cut.png:" in result.err
    assert run("catalog", "add", "c", "cut.png", "missing.wav").code == 1


@pytest.mark.parametrize("pair", ["year", "=2020"])
def test_add_refuses_metadata_without_a_name(run: Run, media: Path, pair: str) -> None:
    result = run("catalog", "add", "c", "words", "--meta", pair)
    assert result.code == 2
    assert "NAME=VALUE" in result.error


def test_remove_by_place_and_by_filter(run: Run, media: Path) -> None:
    assert run("catalog", "remove", "c", "media/dog.png").out == "1 removed\n"
    assert run("catalog", "remove", "c", "--where", "kind = 'audio'").out == "2 removed\n"
    assert json.loads(run("catalog", "info", "c", "--json").out)["kinds"] == {"image": 1, "text": 2}
    assert (media / "dog.png").exists()
    assert run("catalog", "remove", "c", "media/dog.png").code == 1


def test_remove_says_what_it_did_to_failures(run: Run, media: Path) -> None:
    for name in ("bad.png", "worse.png"):
        (media / name).write_bytes(b"not a picture")
    run("index", media, "--catalog", "c", "--quiet")
    assert run("catalog", "remove", "c", "media/bad.png").out == "1 no longer listed as failed\n"
    both = run("catalog", "remove", "c", "media/worse.png", "media/dog.png")
    assert (both.code, both.out) == (0, "1 removed, 1 no longer listed as failed\n")
    assert json.loads(run("catalog", "info", "c", "--json").out)["failures"] == []
    again = run("catalog", "remove", "c", "media/bad.png", "--json")
    assert again.code == 1
    assert json.loads(again.out) == {"items": 0, "places": 0, "failures": 0, "missing": ["media/bad.png"]}


def test_remove_needs_to_know_what(run: Run, media: Path) -> None:
    assert "not both" in run("catalog", "remove", "c").error
    assert run("catalog", "remove", "c", "x", "--where", "kind = 'text'").code == 2
    assert run("catalog", "remove", "c", "--where", "kind =").code == 2


def test_verify_agrees_until_a_file_changes(run: Run, media: Path) -> None:
    result = run("catalog", "verify", "c")
    assert (result.code, "all agree" in result.out) == (0, True)
    (media / "dog.png").write_bytes((media / "cat.png").read_bytes())
    (media / "cat.png").unlink()
    result = run("catalog", "verify", "c", "--json")
    assert result.code == 1
    record = json.loads(result.out)
    assert record["ok"] is False
    assert {problem["what"] for problem in record["problems"]} == {"changed file", "missing file"}
    people = run("catalog", "verify", "c")
    assert people.code == 1
    assert "2 problems" in people.out
    assert run("catalog", "verify", "c", "--no-files").code == 0


def test_export(run: Run, media: Path) -> None:
    assert run("catalog", "export", "c", "all.npz").out == "7 segments in all.npz\n"
    with np.load("all.npz") as stored:
        assert any(stored[name].shape == (7, DIM) for name in stored.files)
    assert run("catalog", "export", "c", "all.jsonl").code == 0
    assert len(Path("all.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(("out", "message"), [("all.csv", ".csv"), ("nowhere/all.npz", "no folder nowhere")])
def test_export_refuses_an_out_it_cannot_write(run: Run, media: Path, out: str, message: str) -> None:
    result = run("catalog", "export", "c", out)
    assert result.code == 2
    assert message in result.error


def test_migrate_makes_the_catalog_searchable_again(run: Run, media: Path) -> None:
    newer = CliSpace(version="2")
    assert run("search", "c", "x", space=newer).code == 2
    result = run("catalog", "migrate", "c", space=newer)
    assert result.code == 0, result.err
    assert run("search", "c", "x", space=newer).code == 0
    with Catalog.open("c", read_only=True) as opened:
        assert opened.fingerprints == newer.fingerprints()
    assert "nothing to do" in run("catalog", "migrate", "c", space=newer).out


@pytest.mark.parametrize("option", ["--space", "--weights"])
def test_migrate_to_a_space_of_another_width(run: Run, media: Path, option: str) -> None:
    wider = CliSpace("wide", embed_dim=96)
    refused = run("index", media, "--catalog", "c", space=wider)
    assert refused.code == 2 and "embedspace catalog migrate c" in refused.error
    assert "come from another encoder" in run("search", "c", "x", space=wider).error
    result = run("catalog", "migrate", "c", option, "wide", space=wider)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("audio, image, speech, text: 6 encoded, 0 kept, 0 removed, 0 failed")
    assert json.loads(run("catalog", "info", "c", "--json").out)["embed_dim"] == 96
    (line,) = run("search", "c", "tall grass", "-k", "1", "--json", space=wider).out.splitlines()
    assert json.loads(line)["uri"].endswith("b.txt")
    assert run("catalog", "verify", "c").code == 0


def test_optimize_and_tune_say_how_each_modality_is_searched(run: Run, media: Path) -> None:
    said = run("catalog", "optimize", "c").out.splitlines()
    assert ["image", "exact"] in [line.split() for line in said] and said[-1].startswith("size ")
    assert set(json.loads(run("catalog", "optimize", "c", "--json").out)["indexes"].values()) == {"exact"}
    table = run("catalog", "tune", "c", "--recall", "0.9").out.splitlines()
    assert table[0].split() == ["modality", "search", "nprobe", "overfetch", "recall", "ms", "bytes"]
    assert ["*", "image", "exact", "-", "-", "1.000"] in [line.split()[:6] for line in table]
    tuned = json.loads(run("catalog", "tune", "c", "--json").out)
    assert {one["recall"] for one in tuned} == {1.0} and all(one["chosen"] for one in tuned)
    with Catalog.open("c", read_only=True) as catalog:
        assert catalog.settings.target_recall == 0.9
    refused = run("catalog", "tune", "c", "--recall", "2")
    assert refused.code == 2 and "target_recall = 2.0; must be from 0.5 to 1.0" in refused.err


@pytest.mark.parametrize("verb", ["info", "verify", "migrate"])
def test_every_verb_refuses_a_missing_catalog(run: Run, tmp_path: Path, verb: str) -> None:
    result = run("catalog", verb, tmp_path / "none.catalog")
    assert result.code == 2
    assert "no catalog here" in result.error


def test_remove_one_place_of_a_duplicate(run: Run, media: Path) -> None:
    (media / "copy.png").write_bytes((media / "dog.png").read_bytes())
    run("index", media, "--catalog", "c")
    result = run("catalog", "remove", "c", "media/copy.png")
    assert (result.code, result.out) == (0, "1 place forgotten; what lay there is at other places, too\n")
    assert "6 items" in run("catalog", "verify", "c").out
    run("index", media, "--catalog", "c")
    assert run("catalog", "remove", "c", "media/copy.png", "media/dog.png").out == "1 removed, 2 places forgotten\n"


def test_remove_a_text_by_its_words(run: Run, media: Path) -> None:
    run("catalog", "add", "c", "a red door", "media/cat.png")
    assert run("catalog", "remove", "c", "a red door").out == "1 removed\n"
    result = run("catalog", "remove", "c", "a red door", "nowhere.png")
    assert (result.code, result.out) == (1, "0 removed\n")
    assert result.err == "a red door: not in the catalog\nnowhere.png: not in the catalog\n"
    assert run("catalog", "remove", "c", "nowhere.png", "media/cat.png").code == 0


def test_add_does_not_take_a_folder_for_a_word(run: Run, media: Path) -> None:
    Path("mv").mkdir()
    result = run("catalog", "add", "c", "mv")
    assert result.code == 1
    assert "mv: a folder; `embedspace index` reads folders" in result.err
    assert run("catalog", "add", "c", '"mv"').out.startswith("1 added")
    (hit,) = run("search", "c", "mv", "-k", "1", "--json").out.splitlines()
    assert json.loads(hit)["text"] == "mv"
    assert run("catalog", "remove", "c", "mv").out == "1 removed\n"


@pytest.mark.parametrize(
    "arguments",
    [("add", "c", "\udcff"), ("add", "c", "words", "--meta", "a=\udcff"), ("remove", "c", "\udcff")],
)
def test_what_is_not_utf8_is_refused(run: Run, media: Path, arguments: tuple[str, ...]) -> None:
    result = run("catalog", *arguments)
    assert result.code in (1, 2)
    assert "not UTF-8" in result.err


@pytest.mark.parametrize(("option", "code"), [(("search", "c", "x"), 2), (("catalog", "remove", "c"), 2)])
def test_where_that_is_not_utf8_is_refused(run: Run, media: Path, option: tuple[str, ...], code: int) -> None:
    result = run(*option, "--where", "kind = '\udcff'")
    assert result.code == code
    assert "not UTF-8" in result.error


def test_where_says_how_to_reach_metadata_that_is_called_like_a_column(run: Run, media: Path) -> None:
    Path("list.csv").write_text("text,label,kind,size\nhello,x,y,12\nworld,z,y,13\n")
    assert run("index", "list.csv", "--catalog", "c").code == 0
    for name, value in (("label", "'x'"), ("kind", "'y'"), ("size", "12")):
        result = run("search", "c", "hello", "--where", f"{name} = {value}")
        assert result.code == 2
        assert f"write meta.{name} or catalog.{name} in" in result.error
        assert run("search", "c", "hello", "-k", "1", "--where", f"meta.{name} = {value}").out.endswith("hello\n")
    assert run("catalog", "remove", "c", "--where", "kind = 'y'").code == 2
    assert run("catalog", "remove", "c", "--where", "catalog.kind = 'audio'").out == "2 removed\n"
    assert "meta.label" in run("search", "--help").out


@pytest.mark.parametrize("key", ["embed_dim", "catalog_id", "revision", "deletions", "calibration", "recipe"])
def test_missing_setting_is_a_damaged_catalog(run: Run, media: Path, key: str) -> None:
    database = sqlite3.connect("c/catalog.sqlite")
    database.execute("DELETE FROM meta WHERE key = ?", (key,))
    database.commit()
    database.close()
    for verb in ("catalog info c", "catalog verify c", "search c x", "index media --catalog c"):
        result = run(*verb.split())
        assert result.code == 2
        assert f"its setting {key} is missing" in result.error


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE meta SET value = 'many' WHERE key = 'embed_dim'", "its setting embed_dim"),
        ("UPDATE meta SET value = '[' WHERE key = 'recipe'", "not index settings"),
        ("DROP TABLE fields", "the catalog is damaged"),
        ("DROP TABLE meta", "the catalog is damaged"),
    ],
)
def test_wrong_setting_is_a_damaged_catalog(run: Run, media: Path, sql: str, message: str) -> None:
    database = sqlite3.connect("c/catalog.sqlite")
    database.execute(sql)
    database.commit()
    database.close()
    result = run("catalog", "info", "c")
    assert result.code == 2
    assert message in result.error


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Path("c/catalog.sqlite-wal").mkdir(), "check the permissions of the folder"),
        (lambda: os.mkfifo("c/catalog.sqlite-shm"), "its drive reports an error (SQLITE_IOERR_SHMOPEN)"),
    ],
)
def test_what_the_drive_refuses_is_said_plainly(run: Run, media: Path, make: Callable[[], None], message: str) -> None:
    make()
    result = run("search", "c", "x")
    assert result.code == 2
    assert message in result.error


def test_what_changes_a_catalog_speaks_json(run: Run, media: Path, tmp_path: Path) -> None:
    Path("cut.png").write_bytes(b"x")
    added = json.loads(run("catalog", "add", "c", "one more text", "cut.png", "--json").out)
    assert (added["added"], [failed["uri"] for failed in added["failed"]]) == (1, ["cut.png"])
    out = tmp_path / "out.jsonl"
    written = json.loads(run("catalog", "export", "c", out, "--json").out)
    assert written == {"segments": len(out.read_text("utf-8").splitlines()), "path": str(out)}
    migrated = run("catalog", "migrate", "c", "--json", space=CliSpace("2"))
    assert json.loads(migrated.out)["encoded"] > 0 and migrated.err == ""
    removed = run("catalog", "remove", "c", "one more text", "nothing of the kind", "--json")
    assert json.loads(removed.out) == {"items": 1, "places": 1, "failures": 0, "missing": ["nothing of the kind"]}
    assert removed.err == ""
