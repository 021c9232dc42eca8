"""The file of an index: which one it is, whether it may be used, and files of earlier versions."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from embedspace.catalog.index.ann.built import AnnIndex
from embedspace.catalog.index.ann.lists import load_lists, sound_lists, write_lists
from embedspace.catalog.index.gpu import lowered, raised
from embedspace.catalog.index.settings import IndexSettings
from embedspace.files import replacing

__all__ = ["facts_path", "index_path", "load_index", "save_index", "sound_index"]

_EARLIER = 8
"""Earlier versions visited one cell of so many."""


def index_path(folder: Path, modality: str) -> Path:
    """Return where the index of a modality lies."""
    return folder / f"{modality}.faiss"


def facts_path(path: Path) -> Path:
    """Return the file beside an HNSW index, or one of an earlier version, that says what it was built from."""
    return path.with_suffix(".json")


def _signature(settings: IndexSettings, catalog_id: str, embed_dim: int) -> str:
    """Return what must agree for a stored index to be used; how it is searched may change without a rebuild."""
    built = [
        settings.index,
        settings.quantizer,
        settings.nlist,
        settings.hnsw_m,
        settings.ef_construction,
        settings.seed,
    ]
    return hashlib.blake2b(json.dumps([catalog_id, embed_dim, *built]).encode(), digest_size=16).hexdigest()


def save_index(ann: AnnIndex, path: Path, catalog_id: str, embed_dim: int) -> bool:
    """Write an index; returns whether that was possible."""
    facts: dict[str, Any] = {
        "signature": _signature(ann.settings, catalog_id, embed_dim),
        "built_at": ann.built_at,
        "size": ann.size,
    }
    index = lowered(ann.index, ann.settings.device)
    try:
        if ann.shell is None:
            _write_whole(index, path, facts)
            return True
        searched = {name: getattr(ann, name) for name in ("kind", "trained", "nprobe", "overfetch", "recall")}
        write_lists(path, index, ann.shell, facts | searched)
        facts_path(path).unlink(missing_ok=True)  # of an earlier version
    except (OSError, RuntimeError):  # derived: a search does without it
        return False
    return True


def _write_whole(index: Any, path: Path, facts: dict[str, Any]) -> None:  # noqa: ANN401
    faiss: Any = importlib.import_module("faiss")

    with replacing(path) as partial:
        faiss.write_index(index, str(partial))
        facts["bytes"] = partial.stat().st_size
        facts["crc"] = _file_digest(partial)
        facts_path(path).unlink(missing_ok=True)  # between the two renames there is no index, not a wrong one
    with replacing(facts_path(path)) as partial:
        partial.write_text(json.dumps(facts), encoding="utf-8")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def load_index(path: Path, settings: IndexSettings, catalog_id: str, embed_dim: int) -> AnnIndex | None:
    """Return a stored index, or `None` where it is missing, damaged, or of other settings or another catalog."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        if facts_path(path).exists():
            return _whole(path, settings, catalog_id, embed_dim)
        found = load_lists(path)
        if found is None:
            return None
        index, shell, header = found
        if header["signature"] != _signature(settings, catalog_id, embed_dim) or index.d != embed_dim:
            return None
        searched = {name: header[name] for name in ("kind", "trained", "nprobe", "overfetch", "recall")}
        ann = AnnIndex(index, settings, int(header["built_at"]), int(header["size"]), int(index.nlist))
        ann = dataclasses.replace(ann, **searched, shell=shell)
        return dataclasses.replace(ann, index=raised(index, settings.device))
    return None


def _whole(path: Path, settings: IndexSettings, catalog_id: str, embed_dim: int) -> AnnIndex | None:
    """Return an index that FAISS wrote: an HNSW graph, or one of an earlier version."""
    facts = json.loads(facts_path(path).read_text(encoding="utf-8"))
    earlier = dataclasses.replace(settings, quantizer="sq8") if settings.quantizer == "auto" else settings
    if facts["signature"] not in [_signature(one, catalog_id, embed_dim) for one in (settings, earlier)]:
        return None
    if path.stat().st_size != facts["bytes"] or _file_digest(path) != facts["crc"]:
        return None  # FAISS trusts the sizes it reads: a damaged file could take all memory, or the process
    faiss: Any = importlib.import_module("faiss")

    index = faiss.read_index(str(path))
    if index.d != embed_dim or index.ntotal != facts["size"]:
        return None
    cells, size = int(getattr(index, "nlist", 0)), int(facts["size"])
    kind = "sq8" if settings.quantizer == "auto" else settings.quantizer
    nprobe = max(8, cells // _EARLIER) if cells else 0
    overfetch = settings.overfetch or 8
    return AnnIndex(
        raised(index, settings.device), settings, int(facts["built_at"]), size, cells, kind, size, nprobe, overfetch
    )


def _unfinished(path: Path) -> bool:
    """Return whether FAISS wrote a file whose facts were never written: none uses it, the next writer replaces it."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(2) in (b"Ix", b"Iw", b"IH")
    return False


def sound_index(path: Path) -> bool:
    """Return whether an index file is as it was written, every byte, or left unfinished by a killed process."""
    if not facts_path(path).exists():
        return sound_lists(path) or _unfinished(path)
    try:
        facts = json.loads(facts_path(path).read_text(encoding="utf-8"))
        return bool(_file_digest(path) == facts["crc"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
