"""Starting a program of this package in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import embedspace

__all__ = ["start_program"]

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "VIRTUAL_ENV")


def start_program(name: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401
    """Start `embedspace.serve.processes.<name>` with pipes to and from it.

    It gets no more of the environment than it needs, computes with one thread, and ends with its standard input.

    Args:
        name: The module.
        arguments: Of its command line.
        options: Further ones of `subprocess.Popen`.
    """
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment["PYTHONPATH"] = str(Path(embedspace.__file__).resolve().parents[1])
    command = [sys.executable, "-P", "-m", f"embedspace.serve.processes.{name}", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True, **options
    )
