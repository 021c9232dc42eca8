"""What a server is told: where it listens, whom it lets in, how much it takes. The standard library alone."""

from __future__ import annotations

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.errors import ConfigError, InputError

__all__ = ["Limits", "ServeSettings", "is_loopback", "read_token"]

TOKEN_VARIABLE = "EMBEDSPACE_TOKEN"
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, and how long.

    Attributes:
        body_bytes: Body of a request that holds no media.
        upload_bytes: Body of a query's media, or of a file that is edited.
        embeddings_bytes: Body of a request for embeddings, with media as data URIs.
        texts: Texts of one request for embeddings.
        media: Media of one request for embeddings.
        terms: Terms of one search.
        hits: Hits of one search, of each group.
        queue: Entries that wait for the encoder; what comes then is refused with 429.
        batch: Entries that are encoded together.
        decodes: Media that wait for a decoder.
        jobs: Generations that wait.
        made: Things of one generation.
        kept_seconds: How long queries' media and generated things are kept.
        kept_bytes: Memory for generated things and previews.
        query_seconds: Of a recording or video that is searched with, so much from its start is taken.
        query_pixels: Largest picture that is searched with.
        edit_pixels: Largest picture that is edited.
        sent_bytes: Memory for pictures and sounds that are edited.
        decode_seconds: Longest time that decoding one file may take.
        decode_bytes: Address space of a process that decodes.
        where_seconds: Longest time that a filter may take.
        header_seconds: Time for a request's headers to arrive, from the first moment.
        body_seconds: Time for a request's body to arrive.
        idle_seconds: Time that a connection may be silent in the middle of a body, or unwilling to take a response.
        keep_alive_seconds: Time that a connection stays open between requests.
        connections: Connections at the same time.
    """

    body_bytes: int = 1 << 20
    upload_bytes: int = 25 << 20
    embeddings_bytes: int = 64 << 20
    texts: int = 256
    media: int = 32
    terms: int = 16
    hits: int = 200
    queue: int = 256
    batch: int = 32
    decodes: int = 64
    jobs: int = 8
    made: int = 16
    kept_seconds: float = 900.0
    kept_bytes: int = 128 << 20
    query_seconds: float = 120.0
    query_pixels: int = 50_000_000
    edit_pixels: int = 16_000_000
    sent_bytes: int = 128 << 20
    decode_seconds: float = 30.0
    decode_bytes: int = 2 << 30
    where_seconds: float = 2.0
    header_seconds: float = 10.0
    body_seconds: float = 120.0
    idle_seconds: float = 20.0
    keep_alive_seconds: int = 30
    connections: int = 1000


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """One server.

    Attributes:
        catalog: Folder of the catalog.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        token: Secret that lets in; without one only this machine is served.
        watch: Folders that are kept indexed.
        space: What the watcher opens as the space: a folder, a TOML file or a preset; None: the shipped one.
        device: Where encoders run.
        read_only: Nothing is written beside the catalog.
        allow_hosts: Names, beside those of this machine, that requests may call it by.
        limits: How much, and how long.
    """

    catalog: Path
    host: str = "127.0.0.1"
    port: int = 7997
    token: str | None = None
    watch: tuple[Path, ...] = ()
    space: str | None = None
    device: str = "cpu"
    read_only: bool = False
    allow_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what would be unsafe, or contradicts itself.

        Raises:
            ConfigError: If other machines could come in without a token, or a read-only server should index.
        """
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} lets other machines in, which needs a token: --token-file FILE, or the variable "
                f"{TOKEN_VARIABLE}; for example: {TOKEN_VARIABLE}={secrets.token_urlsafe(24)}"
            )
        if self.token is not None and len(self.token) < _SHORTEST_TOKEN:
            raise ConfigError(f"the token has {len(self.token)} characters; take at least {_SHORTEST_TOKEN}, at random")
        if self.read_only and self.watch:
            raise ConfigError("--read-only writes nothing, --watch indexes; leave one of them out")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, or of the environment; None where neither has one.

    Raises:
        InputError: If the file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {file}: cannot be read: {error}") from None
    if not token:
        raise InputError(f"--token-file {file}: is empty; write a secret of at least {_SHORTEST_TOKEN} characters")
    return token
