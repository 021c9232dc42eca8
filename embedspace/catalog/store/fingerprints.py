"""Which encoder made the vectors of a catalog, and the refusal of another."""

from __future__ import annotations

from collections.abc import Mapping

from embedspace.catalog.store.store import Store
from embedspace.errors import FingerprintMismatchError

__all__ = ["adopt_fingerprints", "check_fingerprint"]


def check_fingerprint(store: Store, fingerprints: Mapping[str, str]) -> None:
    """Refuse an encoder that is not the one whose vectors are here; see `Catalog.check_fingerprint`."""
    ours = store.fingerprints()
    differ = sorted(name for name in ours if name in fingerprints and ours[name] != fingerprints[name])
    if not differ:
        return
    used = {name for (name,) in store.rows("SELECT DISTINCT modality FROM segments")}
    if not used:
        return
    details = "; ".join(f"{name}: catalog {ours[name][:12]}, encoder {fingerprints[name][:12]}" for name in differ)
    raise FingerprintMismatchError(
        f"{store.path}: its vectors come from another encoder ({details}). Run: embedspace catalog migrate "
        f"{store.path} (re-encodes only the modalities that differ), or search with the encoder it was made with"
    )


def adopt_fingerprints(store: Store, fingerprints: Mapping[str, str], calibration_json: str) -> None:
    """Record the encoder whose vectors are about to be added; see `Catalog.adopt_fingerprints`."""
    check_fingerprint(store, fingerprints)
    ours = store.fingerprints()
    fresh = {name: digest for name, digest in fingerprints.items() if ours.get(name) != digest}
    calibrate = bool(calibration_json) and calibration_json != store.meta("calibration")
    if fresh or calibrate:
        with store.writing("record its encoder") as connection:
            connection.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", fresh.items())
            if calibrate:
                connection.execute("UPDATE meta SET value = ? WHERE key = 'calibration'", (calibration_json,))
