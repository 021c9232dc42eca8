"""The lock files: each package once, and all that running needs in the one that running installs."""

from __future__ import annotations

from pathlib import Path

from tests.support import locks


def _names(path: Path) -> set[str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    names = {locks.name_of(line.split("==")[0]) for line in lines}
    assert len(names) == len(lines)
    return names


def test_running_installs_what_it_needs_and_nothing_else() -> None:
    run, rest = _names(locks.RUN), _names(locks.DEV)
    assert not run & rest
    assert run == locks.needed(locks.STARTS) - locks.NOT_PINNED
    for developer in ("pytest", "mypy", "transformers", "open-clip-torch", "mteb", "torchaudio"):
        assert developer in rest


def test_the_development_environment_holds_every_extra() -> None:
    everything = locks.needed(["embedspace[dev]"]) - locks.NOT_PINNED
    assert everything <= _names(locks.RUN) | _names(locks.DEV)
