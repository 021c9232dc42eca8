"""Shards encoded by actors of Ray Data; each holds an encoder and writes parts to a folder that all of them see.

Source: ray 2.60, `ray.data.Dataset.map_batches` with an actor pool.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.ingest.spread.parts import encode_shard
from embedspace.catalog.ingest.spread.shards import Shard, part_path
from embedspace.errors import EmbedspaceError, MissingExtraError, SpreadError
from embedspace.segment import SegmentEncoder

__all__ = ["encode_with_ray", "require_ray"]

_STORE_BYTES = 200 << 20
"""Ray's object store on this machine: what passes through it are names of files and counts."""
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # else actors wait for every other process
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # that an actor died is said in one line, if it matters
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else pages about it come to standard output
}
_STARTS = 3
_CONNECT_SECONDS = 10.0
_BLOCKS = 64
"""Rows travel in so many blocks per actor, or in one each where they are fewer."""
_RESTARTS = 3
"""So often an actor that died is started again, and its shard encoded again, before a new round begins."""
_FRUITLESS = 2
"""After so many rounds in which no part arrived, the rest is given up."""


def encode_with_ray(
    shards: Sequence[Shard], opened: Callable[[], SegmentEncoder], folder: Path, actors: int
) -> Iterator[int]:
    """Encode shards; yields how many items each part holds that arrives.

    Where RAY_ADDRESS names a cluster its machines are used, and the folder and the files must be there too; else Ray
    is started on this machine and stopped afterwards.

    Args:
        shards: What is to be encoded; those whose part is in the folder are not.
        opened: Returns the encoder; called once in each actor, so that it must be picklable.
        folder: Where parts go.
        actors: How many encoders work side by side.

    Raises:
        MissingExtraError: If Ray is not installed.
        SpreadError: If Ray cannot start, or actors die or run out of memory again and again and no part arrives.
    """
    ray = require_ray()
    started = _start(ray)
    fruitless, error = 0, None
    try:
        while left := _missing(shards, folder):
            try:
                yield from _round(ray, left, opened, folder, actors)
                error = SpreadError(f"do all actors see {folder}?")
            except SpreadError as stopped:
                error = stopped
            fruitless = fruitless + 1 if len(_missing(shards, folder)) == len(left) else 0
            if fruitless >= _FRUITLESS:
                raise SpreadError(
                    f"{len(left)} of {len(shards)} shards cannot be encoded, the first begins with "
                    f"{left[0].candidates[0].uri}: {error}"
                ) from error
    finally:
        if started:
            ray.shutdown()


def _missing(shards: Sequence[Shard], folder: Path) -> list[Shard]:
    """Return the shards whose part is not there."""
    return [shard for shard in shards if not part_path(folder, shard.name).exists()]


def require_ray() -> Any:  # noqa: ANN401
    """Return the module, set up so that it says little and does not step back behind other processes.

    Raises:
        MissingExtraError: If it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(f"--workers ray needs Ray ({error}); run: pip install 'embedspace[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _start(ray: Any) -> bool:  # noqa: ANN401
    """Start Ray where it is not; returns whether it was started here."""
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    _require_answer(address or "")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES, "_node_ip_address": "127.0.0.1"}
    for attempt in range(_STARTS):
        try:
            with _silent():
                ray.init(**options)
            break
        except Exception as error:
            ray.shutdown()
            if not address and "timed out" in str(error) and attempt + 1 < _STARTS:
                continue  # Ray waits for half a minute, which a busy machine may take
            what = f"Ray does not answer at RAY_ADDRESS={address}" if address else "Ray cannot start"
            hint = "is the cluster up?" if address else "it needs some 500 MB of memory, and room in /dev/shm and /tmp"
            raise SpreadError(f"{what} ({_line(error)}); {hint}") from error
    return True


def _require_answer(address: str) -> None:
    """Refuse a cluster that is not there, for which Ray would wait for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise SpreadError(f"Ray does not answer at RAY_ADDRESS={address} ({error}); is the cluster up?") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray's own processes write to standard error to themselves; its errors are exceptions as well."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _round(
    ray: Any,  # noqa: ANN401
    shards: Sequence[Shard],
    opened: Callable[[], SegmentEncoder],
    folder: Path,
    actors: int,
) -> Iterator[int]:
    cores = float(ray.cluster_resources().get("CPU", 1.0))
    size = max(1, min(actors, len(shards)))
    try:
        for row in _encoded(ray, shards, (opened, str(folder)), size, min(1.0, round(0.9 * cores / size, 2))):
            yield int(row["items"])
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, EmbedspaceError):
            raise cause from error
        raise SpreadError(f"Ray stopped ({_line(cause)}); {_hint(cause)}") from error


def _encoded(
    ray: Any,  # noqa: ANN401
    shards: Sequence[Shard],
    arguments: tuple[Callable[[], SegmentEncoder], str],
    size: int,
    cores: float,
) -> Iterator[dict[str, Any]]:
    """Return what actors say of each shard, as they go; each asks for a share of the cores."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    rows = [{"shard": pickle.dumps(shard)} for shard in shards]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args`")  # until 2.64, nothing else bounds the restarts
        parts = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS * size)).map_batches(
            _ShardEncoder,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=cores,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
        )
    rows_of: Iterator[dict[str, Any]] = parts.iter_rows()
    return rows_of


def _hint(cause: BaseException) -> str:
    died = "memory" in str(cause).lower() or "Actor" in type(cause).__name__
    return "perhaps memory is short: use fewer --actors" if died else "the same command goes on"


class _ShardEncoder:
    """One actor: an encoder that stays open."""

    def __init__(self, opened: Callable[[], SegmentEncoder], folder: str) -> None:
        self.encoder, self.folder = opened(), Path(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        counts = []
        for pickled in batch["shard"]:
            shard: Shard = pickle.loads(pickled)
            there = part_path(self.folder, shard.name).exists()  # by an actor that died before it could say so
            counts.append(0 if there else encode_shard(shard, self.encoder, self.folder))
        return {"items": np.asarray(counts, np.int64)}


def _cause(error: BaseException) -> BaseException:
    """Return what went wrong in an actor; Ray Data hangs a `SystemException` that says nothing on its own errors."""
    found: Any = error
    while True:
        further = getattr(found, "cause", None) or found.__cause__
        if not isinstance(further, BaseException) or not str(further):
            return found  # type: ignore[no-any-return]
        found = further


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
