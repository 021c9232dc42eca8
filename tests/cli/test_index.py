from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.records import Progress
from embedspace.cli.shared.progress import ProgressReport
from embedspace.errors import CatalogNotFoundError
from tests.support.cli_media import Run, make_run, media_folder, nan_sound, picture, sound
from tests.support.cli_space import CliSpace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return media_folder(tmp_path / "media")


def _count(path: str | Path) -> int:
    with Catalog.open(path, read_only=True) as opened:
        return len(opened)


def test_index_then_search(run: Run, media: Path) -> None:
    result = run("index", media, "--catalog", "media.catalog")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("6 added, 0 updated, 0 unchanged, 0 failed, ")
    assert result.out.splitlines()[1] == "left out, nothing to encode in them: 1 .words"
    hits = run("search", "media.catalog", "a barking dog", "-k", "2", "--json").out.splitlines()
    assert {Path(json.loads(hit)["uri"]).name for hit in hits} == {"a.txt", "speech.wav"}


def test_index_again_encodes_nothing(run: Run, media: Path) -> None:
    run("index", media, "--catalog", "c")
    assert run("index", media, "--catalog", "c").out.startswith("0 added, 0 updated, 6 unchanged, 0 failed")


def test_index_prunes_when_asked(run: Run, media: Path) -> None:
    run("index", media, "--catalog", "c")
    (media / "cat.png").unlink()
    assert "removed" not in run("index", media, "--catalog", "c").out
    assert "1 removed" in run("index", media, "--catalog", "c", "--prune").out
    shutil.rmtree(media)
    media.mkdir()  # as where a drive is not mounted
    result = run("index", media, "--catalog", "c", "--prune")
    assert (result.code, "removed" in result.out) == (1, False)
    assert result.err == (
        f"{media}: nothing is at 5 of 5 known places any more; the folder is empty (is its drive mounted?); kept, "
        "--prune-all removes them\n"
    )
    result = run("index", media, "--catalog", "c", "--prune-all")
    assert (result.code, result.err) == (0, "")
    assert "5 removed" in result.out


@pytest.mark.parametrize("answer", ["y", "n"])
def test_index_asks_at_a_terminal_before_it_prunes_most(run: Run, media: Path, answer: str) -> None:
    run("index", media, "--catalog", "c")
    shutil.rmtree(media)
    media.mkdir()
    code = (
        "import sys; from tests.support.cli_space import CliSpace; import embedspace.cli.shared.space as seam\n"
        "seam.load_space = lambda *_: CliSpace()\n"
        "from embedspace.cli import main\n"
        "sys.exit(main(['index', 'media', '--catalog', 'c', '--prune']))"
    )
    ours, theirs = os.openpty()
    os.write(ours, f"{answer}\n".encode())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", code], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, timeout=120, env=environment
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "6 of 6 known places any more" in shown and "Remove them from the catalog? [y/N]" in shown
    assert (process.returncode, _count("c")) == ((0, 0) if answer == "y" else (1, 6))


def test_index_json_is_one_object(run: Run, media: Path) -> None:
    (media / "cut.png").write_bytes((media / "dog.png").read_bytes()[:90])
    record = json.loads(run("index", media, "--catalog", "c", "--json").out)
    assert {name: record[name] for name in ("seen", "added", "unchanged", "skipped", "interrupted")} == {
        "seen": 7,
        "added": 6,
        "unchanged": 0,
        "skipped": {".words": 1},
        "interrupted": False,
    }
    (failure,) = record["failed"]
    assert failure["uri"] == str(media / "cut.png")


def test_index_profile_says_where_the_time_went(run: Run, media: Path) -> None:
    record = json.loads(run("index", media, "--catalog", "c", "--json", "--profile").out)
    spent = record["stages"]
    assert {"encode", "store", "wait for decoding"} <= spent.keys()
    assert 0 < sum(spent.values()) < record["seconds"] and min(spent.values()) > 0 and record["decoding"] > 0
    out = run("index", media, "--catalog", "again", "--profile").out
    shown = dict(re.findall(r"^(.+?) +([\d.]+) s", out, re.MULTILINE))
    assert {"encode", "store", "look for files", "all"} <= shown.keys()


def test_index_quiet_prints_nothing(run: Run, media: Path) -> None:
    result = run("index", media, "--catalog", "c", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_index_lists_bad_files_and_goes_on(run: Run, media: Path) -> None:
    (media / "cut.png").write_bytes((media / "dog.png").read_bytes()[:90])
    sound(media / "silent.wav", amplitude=0)
    nan_sound(media / "nan.wav")
    (media / "latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (media / "empty.jpg").write_bytes(b"")
    result = run("index", media, "--catalog", "c")
    assert result.code == 0
    assert "6 added, 0 updated, 0 unchanged, 5 failed" in result.out
    lines = result.err.splitlines()
    assert lines[0] == "5 could not be read:"
    for name in ("cut.png", "silent.wav", "nan.wav", "latin.txt", "empty.jpg"):
        assert sum(f"{name}:" in line for line in lines) == 1, name
    assert len(lines) == 6


def test_index_shows_twenty_bad_files_and_counts_the_rest(run: Run, media: Path) -> None:
    for number in range(25):
        (media / f"bad{number:02d}.png").write_bytes(b"x")
    lines = run("index", media, "--catalog", "c").err.splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 5 more; --json lists all")


def test_index_retries_failed_files_when_asked(run: Run, media: Path) -> None:
    bad = media / "late.words"
    (media / "late.txt").write_bytes(b"\xff\xfe\xff")
    bad.unlink(missing_ok=True)
    assert "1 failed" in run("index", media, "--catalog", "c").out
    again = run("index", media, "--catalog", "c")
    assert "6 unchanged, 1 failed" in again.out
    remark = "1 failed before and did not change since; --retry-failed tries again"
    assert again.err.splitlines()[-1] == remark
    retried = run("index", media, "--catalog", "c", "--retry-failed")
    assert "6 unchanged, 1 failed" in retried.out
    assert remark not in retried.err


def test_index_says_that_a_manifest_within_a_folder_is_not_read(run: Run, media: Path) -> None:
    (media / "list.csv").write_text("path\ndog.png\n")
    line = run("index", media, "--catalog", "c").out.splitlines()[1]
    assert line.endswith(": 1 .csv, 1 .words (a manifest is read only where PATHS names it)")


def test_index_fails_when_every_file_is_bad(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.wav").write_bytes(b"x")
    result = run("index", tmp_path, "--catalog", tmp_path / "c.catalog")
    assert result.code == 1
    assert "2 could not be read" in result.err


def test_index_of_one_file_and_a_missing_one_has_done_something(run: Run, media: Path) -> None:
    for _ in range(2):  # new, then unchanged
        result = run("index", media / "dog.png", "nowhere.png", "--catalog", "c")
        assert result.code == 0
        assert "nowhere.png: no such file or folder" in result.err


@pytest.mark.parametrize("name", ["t.json", "t.csv", "t.parquet"])
def test_index_fails_when_nothing_of_a_table_can_be_read(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\xfd")
    result = run("index", tmp_path / name, "--catalog", tmp_path / "c")
    assert result.code == 1
    assert "1 could not be read" in result.err


def test_index_opens_the_catalog_that_another_process_made_meanwhile(
    run: Run, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", media / "dog.png", "--catalog", "c")
    real, opened = Catalog.open, list[object]()

    def late(path: Path, **options: bool) -> Catalog:
        if not opened:
            opened.append(path)
            raise CatalogNotFoundError("nothing there yet")
        return real(path, **options)

    monkeypatch.setattr(Catalog, "open", late)
    assert run("index", media, "--catalog", "c").code == 0
    assert _count("c") == 6


def test_index_refuses_a_missing_path_and_makes_no_catalog(run: Run, media: Path) -> None:
    result = run("index", "nowhere", "--catalog", "c")
    assert result.code == 2
    assert "nowhere: no such file or folder" in result.error
    assert not Path("c").exists()


def test_index_goes_on_when_only_some_paths_are_missing(run: Run, media: Path) -> None:
    result = run("index", "nowhere", media, "--catalog", "c")
    assert result.code == 0
    assert "6 added" in result.out
    assert "nowhere: no such file or folder" in result.err


def test_index_says_so_when_there_is_nothing(run: Run, media: Path) -> None:
    Path("empty").mkdir()
    result = run("index", "empty", "--catalog", "c")
    assert result.code == 1
    assert "empty: nothing to index (it is empty)" in result.error
    Path("empty/notes.pdf").write_bytes(b"%PDF")
    assert "only 1 .pdf" in run("index", "empty", "--catalog", "c").error


def test_index_reads_a_file_of_unknown_suffix_only_when_told(run: Run, media: Path) -> None:
    odd = picture(media / "odd.png").rename(media / "odd.dat")
    result = run("index", odd, "--catalog", "c")
    assert result.code == 1
    assert "unknown file suffix '.dat'" in result.err
    assert run("index", odd, "--catalog", "c", "--as", "image", "--retry-failed").code == 0


def test_index_takes_manifests_with_metadata(run: Run, media: Path) -> None:
    rows = [{"path": "media/dog.png", "year": 2020}, {"text": "a green field", "year": 2021}]
    Path("list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert "2 added" in run("index", "list.jsonl", "--catalog", "c").out
    (line,) = run("search", "c", "x", "--where", "year = 2021", "--json").out.splitlines()
    assert json.loads(line)["text"] == "a green field"


def test_index_refuses_the_vectors_of_another_encoder(run: Run, media: Path) -> None:
    run("index", media, "--catalog", "c")
    result = run("index", media, "--catalog", "c", space=CliSpace(version="2"))
    assert result.code == 2
    assert "catalog migrate" in result.error
    assert _count("c") == 6


def test_index_refuses_what_is_no_catalog(run: Run, media: Path) -> None:
    Path("c").mkdir()
    Path("c/other.txt").write_text("mine")
    result = run("index", media, "--catalog", "c")
    assert result.code == 2
    assert "not a catalog" in result.error
    assert Path("c/other.txt").read_text() == "mine"


def test_index_refuses_a_damaged_catalog(run: Run, media: Path) -> None:
    run("index", media, "--catalog", "c")
    Path("c/catalog.sqlite").write_bytes(b"not a database" * 1000)
    result = run("index", media, "--catalog", "c")
    assert result.code == 2
    assert "damaged" in result.error


def test_index_refuses_a_locked_catalog(run: Run, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("index", media / "dog.png", "--catalog", "c")
    original = Catalog.open.__func__
    monkeypatch.setattr(Catalog, "open", classmethod(lambda cls, path, **kw: original(cls, path, timeout=0.1, **kw)))
    other = sqlite3.connect("c/catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    result = run("index", media, "--catalog", "c")
    other.close()
    assert result.code == 2
    assert "another process is writing" in result.error
    assert _count("c") == 1


@pytest.mark.parametrize("option", ["--settings", "--recipe"])  # the second is its old name
def test_index_settings(run: Run, media: Path, option: str) -> None:
    assert run("index", media, "--catalog", "c", option, "hnsw").code == 0
    assert json.loads(run("catalog", "info", "c", "--json").out)["settings"] == "hnsw"
    result = run("index", media, "--catalog", "c", option, "exact")
    assert (result.code, "'hnsw'" in result.error) == (2, True)
    assert "no index settings 'fast'" in run("index", media, "--catalog", "d", option, "fast").error
    Path("odd.toml").write_text("speed = 3\n")
    assert "unknown key 'speed'" in run("index", media, "--catalog", "d", option, "odd.toml").error
    Path("cloud.toml").write_text('engine = "cloud"\n')
    assert "unknown engine 'cloud'; known: local" in run("index", media, "--catalog", "d", option, "cloud.toml").error
    assert not Path("d").exists()


def test_index_interrupted_keeps_what_it_has(tmp_path: Path) -> None:
    """Ctrl-C in a process of its own: one line, exit 130, a catalog that opens and goes on."""
    media = media_folder(tmp_path / "media")
    for number in range(400):
        picture(media / f"{number}.png", 100 + number)
    code = (
        "import sys, time; from tests.support.cli_space import CliSpace; import embedspace.cli.shared.space as seam\n"
        "class Slow(CliSpace):\n"
        "    def encode_decoded(self, items):\n"
        "        time.sleep(0.1); print('batch', file=sys.stderr, flush=True); return super().encode_decoded(items)\n"
        "seam.load_space = lambda *_: Slow()\n"
        "from embedspace.cli import main\n"
        f"sys.exit(main(['index', {str(media)!r}, '--catalog', {str(tmp_path / 'c')!r}, '--batch-size', '4']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    for _ in range(3):
        assert process.stderr.readline() == "batch\n"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    lines = [line for line in error.splitlines() if line != "batch"]
    assert process.returncode == 130
    assert len(lines) == 1, error
    assert "items in" in lines[0]
    assert "are intact" in lines[0]
    assert 4 <= _count(tmp_path / "c") < 406


def test_progress_says_the_pace_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 10.0, 70.0, 140.0, 200.0])
    monkeypatch.setattr("embedspace.cli.shared.progress.time.monotonic", lambda: next(clock))
    with ProgressReport() as bar:
        bar.show("indexing", Progress(500, 400, 0, 0, "a"))  # unchanged, at once: not the pace of what follows
        bar.show("indexing", Progress(500, 410, 10, 1, "/m/b.png", 500))
        bar.show("indexing", Progress(500, 440, 40, 1, "/m/long.txt", 500, 0.25))
        bar.show("indexing", Progress(500, 475, 75, 1, "/m/c.png", 500))
        bar.show("indexing", Progress(500, 500, 100, 1, "/m/c.png", 500))
    assert capsys.readouterr().err.splitlines() == [
        "indexing (40 new, 1 failed; 25% of long.txt): 440 of 500 after 70 s, 0.5 per second, 2 min left",
        "indexing (75 new, 1 failed): 475 of 500 after 140 s, 0.5 per second, 50 s left",
        "indexing (100 new, 1 failed): 500 of 500 after 200 s, 0.4 per second",
    ]


def test_pictures_of_phones_are_told_what_to_do(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    for name in ("a.jpe", "b.jfif", "c.jpg"):
        picture(tmp_path / "x.jpg", seed=ord(name[0])).rename(folder / name)
    (folder / "d.heic").write_bytes(b"\0\0\0\x18ftypheic")
    result = run("index", folder, "--catalog", tmp_path / "c")
    assert result.code == 0 and "3 added" in result.out and "1 .heic" in result.out
    assert result.err == "HEIC pictures are not read; convert them to JPEG, for example: heif-convert a.heic a.jpg\n"
    named = run("index", folder / "d.heic", "--catalog", tmp_path / "c")
    assert "d.heic: HEIC pictures are not read; convert them to JPEG" in named.err
