"""Presets at first use and later, on a small random CLIP and CLAP: fitted once, kept whole or not at all."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedspace.space.open as opening
from embedspace.space import EmbeddingSpace
from tests.support.towers import tiny_recipe

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
]


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of presets with one, "tiny"."""
    return tiny_recipe(tmp_path_factory.mktemp("presets")).parent


@pytest.fixture
def kept(presets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where composed presets are kept; empty."""
    monkeypatch.setattr(opening, "PRESETS", presets)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embedspace" / "spaces"


def spaces(kept: Path) -> list[str]:
    """Names in the cache besides locks."""
    return sorted(path.name for path in kept.iterdir() if path.suffix != ".lock") if kept.exists() else []


def in_a_process(presets: Path, code: str) -> subprocess.Popen[str]:
    """Run code in a new process that knows the presets."""
    head = f"import pathlib, embedspace.space.open as o; o.PRESETS = pathlib.Path({str(presets)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_first_use_fits_and_the_second_does_not(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = EmbeddingSpace.from_pretrained("tiny")
    assert len(spaces(kept)) == 1

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("composed again")

    monkeypatch.setattr(opening, "compose_space", refuse)
    again = EmbeddingSpace.from_pretrained("tiny")
    assert again.folder == kept / spaces(kept)[0]
    assert again.fingerprints() == first.fingerprints()
    np.testing.assert_array_equal(again.encode(["a dog"]), first.encode(["a dog"]))


def test_a_process_that_is_killed_while_it_keeps_a_space_leaves_nothing(kept: Path, presets: Path) -> None:
    dying = in_a_process(
        presets,
        """
        import os, signal
        def die(space, folder, **_):
            (folder / "config.json").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        o.save_space = die
        from embedspace.space import EmbeddingSpace
        EmbeddingSpace.from_pretrained("tiny")
        """,
    )
    dying.communicate(timeout=120)
    assert dying.returncode == -9
    assert spaces(kept) == [".tiny.partial"]
    EmbeddingSpace.from_pretrained("tiny")
    assert [name.rsplit("-", 1)[0] for name in spaces(kept)] == ["tiny"]


def test_a_process_that_waited_uses_what_another_composed(kept: Path, presets: Path) -> None:
    EmbeddingSpace.from_pretrained("tiny")
    whole = kept / spaces(kept)[0]
    elsewhere = whole.rename(kept.parent / "whole")
    with (kept / ".tiny.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = in_a_process(
            presets,
            """
            def refuse(*_, **__): raise SystemExit("composed again")
            o.compose_space = refuse
            from embedspace.space import EmbeddingSpace
            print("asks", flush=True)
            print(EmbeddingSpace.from_pretrained("tiny").folder)
            """,
        )
        assert waiting.stdout is not None and waiting.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        elsewhere.rename(whole)
    out, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, out.strip()) == (0, str(whole)), err


def test_where_nothing_can_be_kept_a_preset_serves_all_the_same(kept: Path) -> None:
    kept.parent.parent.mkdir()
    kept.parent.write_text("a file where the folder would be")
    assert EmbeddingSpace.from_pretrained("tiny").encode(["a dog"]).shape == (1, 16)
