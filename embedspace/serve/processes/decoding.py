"""Decoding in processes of their own: a few that live on, each within limits, replaced where it exceeds them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from embedspace.errors import MediaError, MediaTooLargeError
from embedspace.serve.errors import busy
from embedspace.serve.metrics import Metrics
from embedspace.serve.processes.program import start_program
from embedspace.serve.settings import Limits

__all__ = ["Decoder"]

_TASKS_EACH = 200
"""A process is replaced after so many files: what a decoder leaks does not add up."""


class _Worker:
    """One process, and the thread's way to talk to it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.process: subprocess.Popen[bytes] | None = None
        self.done = 0

    def start(self) -> subprocess.Popen[bytes]:
        """Return the process, started unless it runs."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process, self.done = start_program("decode", str(self.limits.decode_bytes)), 0
        return self.process

    def run(self, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Have a file decoded; see `Decoder.run`."""
        process = self.start()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(self.limits.decode_seconds, end)
        clock.daemon = True
        clock.start()
        try:
            answer = _ask(process, task)
        except (OSError, ValueError):  # the process is gone
            answer = None
        finally:
            clock.cancel()
        self.done += 1
        if answer is None or self.done >= _TASKS_EACH:
            self.close()
        if answer is None and late.is_set():
            raise MediaTooLargeError(f"decoding takes longer than {self.limits.decode_seconds:g} s; send less of it")
        if answer is None:
            raise MediaError("the decoder died of it; the file is damaged, or needs too much memory")
        about, content = answer
        if "error" in about:
            raise (MediaTooLargeError if about.get("too_large") else MediaError)(about["error"])
        return about, content

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not sent yet
                        pipe.close()
            self.process.wait()
            self.process = None


def _ask(process: subprocess.Popen[bytes], task: dict[str, Any]) -> tuple[dict[str, Any], bytes] | None:
    """Send a task and read its answer; None where the process ends before."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(task).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    about = json.loads(line)
    content = process.stdout.read(int(about.pop("bytes")))
    return about, content


class Decoder:
    """The processes that decode, and the queue before them."""

    def __init__(self, limits: Limits, metrics: Metrics, processes: int = 2) -> None:
        """Prepare so many processes; each starts with its first file, or with `start`."""
        self._limits, self._metrics = limits, metrics
        self._idle = [_Worker(limits) for _ in range(processes)]
        self._workers = list(self._idle)
        self._threads = ThreadPoolExecutor(processes, "decoder")
        self.waiting = 0

    def start(self) -> None:
        """Start the processes already, so that the first file need not wait for them."""
        for _ in self._workers:
            self._threads.submit(self._start)

    def _start(self) -> None:
        worker = self._idle.pop(0)  # those that ran last are taken first: the others are met here
        try:
            worker.start()
        finally:
            self._idle.append(worker)

    async def run(self, task: str, path: str, **options: Any) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401
        """Have a file decoded.

        Args:
            task: One of `embedspace.serve.processes.decode`'s.
            path: The file.
            options: Options of the task.

        Returns:
            What is known of it, and its bytes.

        Raises:
            MediaError: If it cannot be decoded within the limits.
            ApiError: 429, if too many files wait.
        """
        if self.waiting >= self._limits.decodes:
            self._metrics.refused.labels("decoder").inc()
            raise busy("the decoder")
        self.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._run, task, {"path": path, **options})
        finally:
            self.waiting -= 1

    def _run(self, task: str, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        worker = self._idle.pop()  # as many as threads
        try:
            with self._metrics.stage(task if task in ("thumbnail", "waveform", "preview") else "decode"):
                return worker.run({"task": task, **options})
        finally:
            self._idle.append(worker)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()
