"""Folders that are kept indexed, the map, and the verb that starts it all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from embedspace.catalog import Catalog, CatalogItem
from embedspace.segment import Segment
from embedspace.serve.processes import map as drawing
from embedspace.serve.processes import watch, watching
from embedspace.serve.processes.program import start_program
from embedspace.serve.processes.watch import rescan
from tests.support.catalog_encoder import vector_items
from tests.support.cli_media import Run, make_run, media_folder, picture
from tests.support.cli_space import vector_of
from tests.support.serving import ServeSpace, filled_catalog, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


def _until(true: Callable[[], Any], seconds: float = 60.0) -> Any:
    started = time.monotonic()
    while not (found := true()):
        assert time.monotonic() - started < seconds, "it did not happen"
        time.sleep(0.1)
    return found


# -- watching ----------------------------------------------------------------------------------------------------------


def test_a_rescan_adds_what_is_new_and_forgets_what_is_gone(tmp_path: Path) -> None:
    folder = media_folder(tmp_path / "media")
    told: list[dict[str, Any]] = []
    space: Any = ServeSpace()
    assert rescan(tmp_path / "c", [folder], space, lambda **state: told.append(state)).added == 6
    assert told[-1] == {"running": False, "done": 6, "total": 6, "failed": 0, "last_error": None}
    picture(folder / "new.png", 9)
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "dog.png").unlink()
    report = rescan(tmp_path / "c", [folder], space, lambda **state: told.append(state))
    assert (report.added, report.removed, report.unchanged) == (1, 1, 5)
    assert told[-1]["failed"] == 1 and told[-1]["last_error"].startswith(f"{folder / 'bad.png'}: not an image")


def test_what_changes_during_the_first_look_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def look(*_: Any) -> None:
        looks.append(time.monotonic())
        if len(looks) == 2:
            raise KeyboardInterrupt
        (tmp_path / "late.txt").write_text("after it was looked for")

    asked = {"catalog": str(tmp_path / "c"), "folders": [str(tmp_path)], "space": None, "device": "cpu"}
    monkeypatch.setattr(sys, "argv", ["watch", json.dumps(asked)])
    monkeypatch.setattr(watch.os, "nice", lambda _: None)
    monkeypatch.setattr(watch, "_end_with_the_server", lambda: None)
    monkeypatch.setattr(watch, "_open_space", lambda *_: None)
    monkeypatch.setattr(watch, "rescan", look)
    monkeypatch.setattr(watch, "QUIET_MS", 50)
    monkeypatch.setattr(watch, "RESCAN_SECONDS", 5.0)
    watch.main()
    assert len(looks) == 2 and looks[1] - looks[0] < 4


def test_a_watched_folder_is_searched_without_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.txt").write_text("a barking dog")
    command = [sys.executable, "-m", "embedspace.cli", "serve", folder / "c", "--port", "0", "--watch", folder]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split(" at ")[1].split(";")[0]
        states: list[dict[str, Any]] = []
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:

            def watch() -> None:
                with httpx.Client(base_url=address, timeout=60, trust_env=False) as other:
                    with other.stream("GET", "/api/index/events") as events:
                        for line in events.iter_lines():
                            if line.startswith("data: "):
                                states.append(json.loads(line.removeprefix("data: ")))

            watching = threading.Thread(target=watch)
            watching.start()

            def names(text: str) -> list[str]:
                answer = client.post("/api/search", json={"terms": [{"text": text}]})
                assert answer.status_code == 200, answer.text
                return [hit["name"] for hit in answer.json()["hits"]]

            _until(lambda: names("a dog") == ["a.txt"])
            (folder / "later").mkdir()
            (folder / "later" / "b.txt").write_text("a red bicycle")
            _until(lambda: names("a bicycle")[0] == "b.txt")
            assert client.get("/api/catalog").json()["counts"] == {"text": 2}
            _until(lambda: states[-1]["done"] == 2 and not states[-1]["running"])
            assert states[-1]["watching"] and states[-1]["last_error"] is None
            seen = len(states)
            time.sleep(4)  # the catalog lies in the folder: its own changes are no news
            assert len(states) == seen
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        watching.join(10)
    finally:
        process.kill()
        process.stderr.close()
    with Catalog.open(folder / "c") as catalog:
        assert catalog.verify().ok


@pytest.mark.parametrize("missing", ["folder", "space"])
def test_what_ends_the_indexing_is_told(missing: str, tmp_path: Path) -> None:
    folder, space = tmp_path / "media", None
    if missing == "space":
        folder.mkdir()
        space = str(tmp_path / "nowhere")
    asked = {"catalog": str(tmp_path / "c"), "folders": [str(folder)], "space": space, "device": "cpu"}
    process = start_program("watch", json.dumps(asked), stderr=subprocess.PIPE)
    with process:  # standard input stays open meanwhile, as a server's does
        assert process.stdout is not None and process.stderr is not None
        out, problem = process.stdout.read(), process.stderr.read()
        process.wait(60)
        process.stderr.close()
    state = json.loads(out.splitlines()[-1])
    assert process.returncode in (0, 1), problem  # not an abort of the interpreter
    assert not state["running"] and str(tmp_path) in state["last_error"]


def test_a_server_that_watches_nothing_says_so(tmp_path: Path) -> None:
    path = filled_catalog(tmp_path / "c", media_folder(tmp_path / "media"))
    with running(path) as served, served.client.stream("GET", "/api/index/events") as events:
        lines = events.iter_lines()
        assert next(lines) == "event: state"
        assert json.loads(next(lines).removeprefix("data: "))["watching"] is False


# -- the map -----------------------------------------------------------------------------------------------------------


def test_near_items_are_near_on_the_map() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 32))
    rows = np.repeat(centres, 20, axis=0) + rng.normal(size=(120, 32)) * 0.1
    points = drawing.plane(rows.astype(np.float32))
    assert points.shape == (120, 2) and np.abs(points).max() == 1.0
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:11] // 20
    assert (nearest == np.arange(120)[:, None] // 20).mean() > 0.99
    np.testing.assert_array_equal(points, drawing.plane(rows.astype(np.float32)))


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 8])
def test_a_map_of_few_items_is_one_all_the_same(count: int) -> None:
    points = drawing.plane(np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32))
    assert points.shape == (count, 2) and np.isfinite(points).all()


def test_landmarks_are_drawn_evenly_and_the_same_each_time(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(900, 16)).astype(np.float32)
    with Catalog.create(tmp_path / "c", embed_dim=16, fingerprints={}) as catalog:
        catalog.add(vector_items(rows / np.linalg.norm(rows, axis=1, keepdims=True), per_item=3))
        about, vectors = catalog.landmarks(100)
        again, _ = catalog.landmarks(100)
        everything, _ = catalog.landmarks(1000)
    assert len(about) == len(vectors) == 100 and about == again and len(everything) == 300
    numbers = [int(uri.rpartition("/")[2]) for *_, uri in about]
    assert 15 <= sum(number < 75 for number in numbers) <= 35


def test_the_map_is_drawn_once_per_revision(tmp_path: Path) -> None:
    path = filled_catalog(tmp_path / "c", media_folder(tmp_path / "media"))
    with running(path) as served:
        first = served.client.get("/api/map")
        assert (first.status_code, first.json()["state"]) == (202, "computing")
        found = _until(lambda: (answer := served.client.get("/api/map")).status_code == 200 and answer.json())
        assert found["state"] == "ready" and found["of"] == 6
        assert {point["label"] for point in found["points"]} >= {"dog.png", "tall grass"}
        assert all(-1 <= point["x"] <= 1 and -1 <= point["y"] <= 1 for point in found["points"])
    with running(path) as served:  # kept beside the catalog
        assert served.client.get("/api/map").json() == found
    (path / "map.json").write_text("{")
    with running(path, read_only=True) as served:
        assert served.client.get("/api/map").status_code == 202
        _until(lambda: served.client.get("/api/map").status_code == 200)
    assert (path / "map.json").read_text() == "{"  # nothing is written


# -- the catalog at a glance -------------------------------------------------------------------------------------------


def test_fields_say_what_filters_can_ask(tmp_path: Path) -> None:
    path = filled_catalog(tmp_path / "c", media_folder(tmp_path / "media"))
    with Catalog.open(path) as catalog:
        for number, (licence, day) in enumerate((("CC0", "2024-01-02"), ("CC0", "2025-03-04"), ("MIT", "2023-05-06"))):
            facts = {"licence": licence, "day": day, "stars": number, "nested": {"depth": number / 2}}
            segments = [Segment("text", vector_of(f"x{number}"))]
            catalog.add([CatalogItem(f"item/{number}", "text", segments, facts, content_hash=f"{number}" * 32)])
    with running(path) as served:
        found = served.client.get("/api/catalog").json()
        fields = {field["name"]: field for field in found["fields"]}
        assert fields["licence"]["values"] == [{"value": "CC0", "count": 2}, {"value": "MIT", "count": 1}]
        assert (fields["day"]["kind"], fields["day"]["min"], fields["day"]["max"]) == (
            "time", "2023-05-06", "2025-03-04"
        )  # fmt: skip
        assert (fields["stars"]["kind"], fields["stars"]["min"], fields["stars"]["max"]) == ("number", 0, 2)
        assert fields["nested.depth"]["max"] == 1.0
        assert found["counts"]["text"] == 5 and found["items"] == 9 and found["token_required"] is False
        some = served.client.get("/api/catalog", params={"where": "stars > 0"}).json()
        counted = {field["name"]: field for field in some["fields"]}
        assert counted["licence"]["values"] == [{"value": "CC0", "count": 1}, {"value": "MIT", "count": 1}]
        assert (counted["stars"]["min"], counted["stars"]["count"], some["items"]) == (1, 2, 9)
        assert served.client.get("/api/catalog").json() == found
        refused = served.client.get("/api/catalog", params={"where": "stars >"})
        assert refused.status_code == 400 and "where: " in refused.json()["error"]["message"]
        hits = served.search({"text": "x"}, where="licence = 'CC0' and stars > 0", k=9)["hits"]
        assert [hit["uri"] for hit in hits] == ["item/1"]
        with Catalog.open(path) as catalog:  # another process writes
            catalog.remove("licence = 'MIT'")
        assert served.client.get("/api/catalog").json()["items"] == 8


def test_indexing_that_ends_is_begun_again_ever_later_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts: list[float] = []

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        starts.append(time.monotonic())
        program = """print('{"last_error": "no such weights"}')""" if len(starts) < 3 else "raise SystemExit(3)"
        return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(watching, "start_program", start)
    monkeypatch.setattr(watching, "_AGAIN_SECONDS", 0.2)
    path = filled_catalog(tmp_path / "c", media_folder(tmp_path / "media"))
    with running(path, watch=(tmp_path / "media",)):
        _until(lambda: len(starts) >= 4)
    waits = np.diff(starts)
    assert waits[0] >= 0.2 and waits[1] >= 0.4 and waits[2] >= 0.8
    told = [record.getMessage() for record in caplog.records if "indexing" in record.getMessage()]
    assert told[0].startswith("indexing: no such weights; it is begun again")
    assert told[2].startswith("indexing: it ended unexpectedly (3)")


# -- the verb ----------------------------------------------------------------------------------------------------------


def test_the_verb_refuses_what_is_unsafe_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDSPACE_TOKEN", raising=False)
    path = filled_catalog(tmp_path / "c", media_folder(tmp_path / "media"))
    assert "needs a token" in run("serve", path, "--host", "0.0.0.0").error
    assert "no such folder" in run("serve", path, "--watch", tmp_path / "nowhere").error
    assert "leave one of them out" in run("serve", path, "--watch", tmp_path, "--read-only").error
    assert "no catalog here" in run("serve", tmp_path / "nothing", "--port", "0").error
    other: Any = ServeSpace(version="2")
    assert "migrate" in run("serve", path, "--port", "0", space=other).error
    with running(path) as served:
        assert "choose another --port" in run("serve", path, "--port", served.port).error


def test_without_the_extra_the_verb_says_how_to_get_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "fastapi" else real(name, *rest)
    )
    result = run("serve", tmp_path)
    assert result.code == 2 and "needs fastapi" in result.error and "pip install 'embedspace[serve]'" in result.error
