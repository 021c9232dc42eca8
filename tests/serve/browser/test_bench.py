"""The page's bench: one clock, pictures that are really there, and a stop where one is not."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedspace.catalog import Catalog
from embedspace.space import EmbeddingSpace
from eval.bench import bench_page
from tests.serve.browser.conftest import free_port

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("page")
    space, path = EmbeddingSpace.from_pretrained(), folder / "bench.catalog"
    about = {"fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
    (folder / "media").mkdir()
    with Catalog.create(path, embed_dim=space.embed_dim, **about) as catalog:
        catalog.add(bench_page.media(720, space.encode(bench_page.SUBJECTS), folder / "media"))
    with bench_page.serving(path, free_port()) as url:
        yield url, folder / "media"


def test_a_screen_is_measured_when_all_of_it_is_there(served: tuple[str, Path], browser: Any) -> None:
    figures = bench_page.measure(browser, served[0], argparse.Namespace(runs=2))
    for name in ("everything", "pictures", "sounds"):
        found = figures[name]
        assert 0 < found["server_ms"] < found["cards_ms"] <= found["screen_ms"] <= found["slowest_screen_ms"] < 60_000
        assert found["on_screen"]["shown"] >= 6
    assert figures["pictures"]["on_screen"]["pictures"] == figures["pictures"]["on_screen"]["shown"]
    assert figures["sounds"]["on_screen"]["waveforms"] == figures["sounds"]["on_screen"]["shown"]


def test_what_travels_is_counted_and_compressed(served: tuple[str, Path], browser: Any) -> None:
    found = {**bench_page.loaded(browser, served[0]), **bench_page.all_scripts(served[0])}
    assert 8 <= found["requests"] <= 12 and found["script_requests"] < found["modules"]
    assert (
        found["script_bytes"]
        < found["all_script_bytes"]
        == sum(len(path.read_bytes()) for path in bench_page.PAGE.rglob("*.js"))
    )
    assert found["all_script_bytes_sent"] < 60_000 and found["script_bytes_sent"] < found["script_bytes"] / 2


def test_a_picture_that_is_gone_ends_the_bench(served: tuple[str, Path], browser: Any) -> None:
    url, media = served
    for path in media.glob("a-red-bicycle-*.jpg"):
        shutil.move(path, media.parent / path.name)
    page = bench_page.visitor(browser, url, "image")
    with pytest.raises(Exception, match="a picture did not load"):
        bench_page.ask(page, "a red bicycle")
    page.context.close()


def test_a_misread_clock_is_noticed() -> None:
    with pytest.raises(AssertionError):
        bench_page.summary("screen_ms", [120.0, -88_922.0])
    assert bench_page.summary("screen_ms", [1.0, 2.0, 9.0]) == {
        "screen_ms": 2,
        "fastest_screen_ms": 1,
        "slowest_screen_ms": 9,
    }
