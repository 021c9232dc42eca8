"""Small checkpoints, made once; no test here reaches a network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support import towers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries deprecate among themselves is nothing that embedspace can change."""
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent and Path(item.fspath).name != "test_base.py":
            item.add_marker(pytest.mark.filterwarnings("default::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("default::FutureWarning"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever tries to reach another machine."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.tiny_open_clip(tmp_path_factory.mktemp("open_clip") / "tiny")


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.tiny_clap(tmp_path_factory.mktemp("clap") / "tiny")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.tiny_sentence_clip(tmp_path_factory.mktemp("clip") / "tiny")
