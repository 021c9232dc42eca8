"""What a server sets for its process: few heaps however many threads there are, short pauses for garbage."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest

from embedspace.serve.process import PauseBound, bound_arenas

COUNT = """
import ctypes, sys, threading
from embedspace.serve.process import bound_arenas
if sys.argv[1] == "bound":
    assert bound_arenas()
libc, all_there = ctypes.CDLL(None), threading.Barrier(9)
libc.malloc.restype = ctypes.c_void_p
def take():
    libc.malloc(1000)
    all_there.wait()
for _ in range(8):
    threading.Thread(target=take).start()
all_there.wait()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def _heaps(how: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", COUNT, how]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return told.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas")
def test_threads_share_two_heaps() -> None:
    assert _heaps("free") > 2
    assert _heaps("bound") == 2


def test_whoever_sets_the_variable_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not bound_arenas()


@pytest.fixture
def thawed() -> Iterator[None]:
    callbacks = list(gc.callbacks)
    yield
    gc.callbacks[:] = callbacks
    gc.unfreeze()


def _told(bound: PauseBound, generation: int) -> int:
    """Tell of one collection; returns how many objects are set aside after it."""
    for phase in ("start", "stop"):
        bound(phase, {"generation": generation, "collected": 0, "uncollectable": 0})
    return gc.get_freeze_count()


def test_what_a_long_search_for_garbage_leaves_is_set_aside(thawed: None) -> None:
    before = gc.get_freeze_count()
    assert _told(PauseBound(0.02, iter([0.0, 0.019]).__next__), 2) == before
    assert _told(PauseBound(0.02, iter([0.0, 0.021]).__next__), 1) == before, "young objects are few"
    assert _told(PauseBound(0.02, iter([0.0, 0.021]).__next__), 2) > before + 1000


def test_python_itself_tells_of_its_searches(thawed: None) -> None:
    gc.callbacks.append(PauseBound(0.0))
    before = gc.get_freeze_count()
    gc.collect(1)
    assert gc.get_freeze_count() == before
    gc.collect()
    assert gc.get_freeze_count() > before + 1000


def test_a_process_is_prepared_once() -> None:
    code = (
        "import gc, sys; from embedspace.serve.process import PauseBound, prepare_process\n"
        "prepare_process(); prepare_process()\n"
        "print(sum(isinstance(told, PauseBound) for told in gc.callbacks), sys.getswitchinterval())"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["1", "0.001"]
