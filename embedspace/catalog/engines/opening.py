"""From an address to an engine, and what it says of itself."""

from __future__ import annotations

from embedspace.catalog.engines.address import EngineAddress
from embedspace.catalog.engines.contract import RECORD, Engine, Record
from embedspace.errors import EngineError

__all__ = ["open_engine", "read_record"]


def open_engine(address: EngineAddress, timeout: float | None = None) -> Engine:
    """Reach an engine; nothing is made there.

    Args:
        address: Where it is.
        timeout: Seconds that one answer of a server may take; None: a minute.

    Raises:
        EngineError: If a folder is in use, damaged, or something else.
        MissingExtraError: If the library of the engine is not installed.
    """
    if address.folder is not None:
        from embedspace.catalog.engines.qdrant.edge import EdgeEngine

        return EdgeEngine(address)
    from embedspace.catalog.engines.qdrant.client import ServerEngine

    return ServerEngine(address, timeout)


def read_record(engine: Engine) -> Record | None:
    """Return what an engine says of the catalog that it was filled from; None where it is empty.

    Raises:
        EngineError: If it cannot be reached, or holds something else.
    """
    if engine.widths() is None:
        return None
    found = engine.read([RECORD]).get(RECORD)
    record = None if found is None else Record.from_payload(found.payload)
    if record is None and engine.count({"must_not": [{"has_id": [RECORD]}]}):
        raise EngineError(f"{engine.address}: holds points of something else; push to another name")
    return record
