"""The C library's heaps: few, however many threads there are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from embedspace.serve.allocator import bound_arenas

COUNT = """
import ctypes, sys, threading
from embedspace.serve.allocator import bound_arenas
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
