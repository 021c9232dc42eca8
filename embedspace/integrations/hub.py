"""Spaces in repositories of the Hugging Face hub: a folder that `EmbeddingSpace.save` wrote, as it is."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from embedspace.errors import InputError, MissingExtraError, WeightsError
from embedspace.media.source import one_line
from embedspace.space import EmbeddingSpace

__all__ = ["pull_space", "push_space"]


def _library() -> Any:  # noqa: ANN401 - the library is optional
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtraError(
            f"huggingface_hub is not installed ({one_line(error)}): pip install embedspace[hub]"
        ) from error


def push_space(folder: str | Path, repository: str, *, private: bool = True, tag: str | None = None) -> str:
    """Upload a space's folder; the token is the one that `hf auth login` keeps, or HF_TOKEN.

    Args:
        folder: As `EmbeddingSpace.save` wrote it.
        repository: "organisation/name"; made if it is missing.
        private: Whether a new repository is private.
        tag: Name for this state of it, which `pull_space` takes as a revision; none if absent.

    Returns:
        Address of the commit.

    Raises:
        WeightsError: If there is no space in the folder.
        InputError: If the hub refuses it or cannot be reached.
        MissingExtraError: If huggingface_hub is not installed.
    """
    EmbeddingSpace.from_pretrained(Path(folder))  # nothing else is uploaded
    hub = _library()
    try:
        hub.HfApi().create_repo(repository, private=private, exist_ok=True)
        commit = hub.HfApi().upload_folder(repo_id=repository, folder_path=str(folder))
        if tag is not None:
            hub.HfApi().create_tag(repository, tag=tag, revision=commit.oid)
        return str(commit)
    except Exception as error:  # of the network, of the hub
        raise InputError(f"{repository}: could not be pushed: {one_line(error)}") from error


def pull_space(
    repository: str, out: str | Path, *, revision: str | None = None, download: bool = False
) -> EmbeddingSpace:
    """Copy a space from a repository into a folder.

    Args:
        repository: "organisation/name".
        out: The folder; must not exist.
        revision: Branch, tag or commit.
        download: Whether the network may be used; without it the hub's cache on this machine must have it.

    Raises:
        InputError: If something is at `out`, or it is not on this machine and may not be downloaded, or cannot be.
        WeightsError: If the repository holds no space.
        MissingExtraError: If huggingface_hub is not installed.
    """
    target, hub = Path(out), _library()
    if target.exists():
        raise InputError(f"{target}: something is there already; name a new folder")
    try:
        found = Path(hub.snapshot_download(repository, revision=revision, local_files_only=not download))
    except Exception as error:  # of the network, of the hub
        if download:
            raise InputError(f"{repository}: could not be pulled: {one_line(error)}") from error
        raise InputError(
            f"{repository}: not on this machine, and nothing is downloaded unless asked; allow it with download=True "
            "(--download)"
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)) / target.name
    try:
        shutil.copytree(found, partial)
        try:
            EmbeddingSpace.from_pretrained(partial)
        except WeightsError as error:
            raise WeightsError(f"{repository}: holds no space that can be opened: {error}") from error
        partial.replace(target)
    finally:
        shutil.rmtree(partial.parent, ignore_errors=True)
    return EmbeddingSpace.from_pretrained(target)
