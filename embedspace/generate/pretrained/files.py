"""Where the files of a head are, and what they say of themselves: revision, licence, digest.

A folder is read as it is. A name of the hub is read from the hub's cache; it gets there only where that is allowed, by
the library that knows which files a pipeline needs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from embedspace.encoders.towers.adapters.files import find_folder, loading
from embedspace.encoders.towers.base import TowerRequest
from embedspace.errors import WeightsError

__all__ = ["INDEX", "HeadRequest", "digest_of_files", "folder_of", "licence_of", "pipeline_class"]

INDEX = "model_index.json"
"""The file that says what a pipeline of diffusers is made of."""
_KEPT = (".safetensors", ".json", ".txt", ".model")
_CARD = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class HeadRequest(TowerRequest):
    """What `create_head` was asked for; as of a tower."""

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"head {self.reference!r}"

    def beside(self, place: str) -> HeadRequest:
        """Return the request of another model that the head needs, such as its prior."""
        return dataclasses.replace(self, place=place, options={})


def folder_of(request: HeadRequest) -> tuple[Path, str | None]:
    """Return the folder of a head and, if it is from the hub, its revision.

    Raises:
        WeightsError: If there is none, or it would have to be downloaded.
    """
    place, revision = request.place, None
    if not request.path().is_dir() and "@" in place:
        place, _, revision = place.rpartition("@")
    asked = dataclasses.replace(request, place=place, options={"revision": revision} if revision else {})
    if request.download and not asked.path().is_dir():
        _fetch(asked, place, revision)
        asked = dataclasses.replace(asked, download=False)
    return find_folder(asked, place)


def _fetch(request: HeadRequest, name: str, revision: str | None) -> None:
    """Bring the files of a pipeline into the hub's cache: its weights as safetensors, and its card."""
    import huggingface_hub
    from diffusers import DiffusionPipeline

    with loading(request, f"{name} could not be downloaded"):
        DiffusionPipeline.download(name, revision=revision, use_safetensors=True)
        huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=["README.md"])


def pipeline_class(request: HeadRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a pipeline's class, and its parts: name -> (library, class).

    Raises:
        WeightsError: If the folder holds no pipeline.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        return str(index["_class_name"]), {k: v for k, v in index.items() if not k.startswith("_")}
    except FileNotFoundError:
        raise WeightsError(
            f"{request.label}: {folder} holds no {INDEX}: it is no pipeline of diffusers; name the folder that "
            "save_pretrained wrote"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{request.label}: {folder / INDEX} cannot be read: {error!r}") from None


def licence_of(folder: Path) -> str:
    """Return the licence that a model's card names; "" where there is no card or it names none."""
    card = folder / "README.md"
    try:
        found = _CARD.match(card.read_text("utf-8")) if card.is_file() else None
    except (OSError, UnicodeDecodeError):
        return ""
    said = dict(re.findall(r"^(license\w*):[ \t]*[\"']?([^\n\"']+)", found.group(1), re.MULTILINE)) if found else {}
    return str(said.get("license_name") or said.get("license") or "").strip()


def digest_of_files(folder: Path) -> str:
    """Return the hex digest over a head's files, names included.

    Large files of the hub's cache bear their own SHA-256 as their name, and need not be read.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _KEPT and path.is_file()):
        place = path.resolve()
        if _SHA256.fullmatch(place.name):
            found = place.name
        else:
            with place.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{found}\0".encode())
    return total.hexdigest()
