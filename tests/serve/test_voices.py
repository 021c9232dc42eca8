"""Search by speaker over HTTP."""

from __future__ import annotations

from pathlib import Path

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.space import EmbeddingSpace
from tests.support.serving import running

SENT = {"Content-Type": "audio/ogg"}
PENGUIN = Path(__file__).resolve().parents[1] / "data" / "penguin.ogg"


def filled(path: Path, space: EmbeddingSpace) -> Path:
    with Catalog.create(path, embed_dim=256, fingerprints=space.fingerprints()) as catalog:
        ingest(catalog, [PENGUIN], space)
    return path


def test_by_voice_finds_who_speaks_and_says_what_it_lacks(tmp_path: Path) -> None:
    plain = EmbeddingSpace.from_pretrained()
    with running(filled(tmp_path / "a.catalog", plain.with_voices()), plain) as server:
        sent = server.client.post("/api/queries?name=who.ogg", content=PENGUIN.read_bytes(), headers=SENT).json()
        assert "voice" in sent.get("modalities", ()), sent
        assert sent["modalities"][0] == "speech"
        found = server.client.post("/api/search", json={"terms": [{"ref": sent["ref"]}], "by": "voice"}).json()
        (hit,) = found["hits"]
        assert (hit["modality"], hit["start"]) == ("voice", 0.0) and hit["score"] > 0.99
        again = server.client.post("/api/search", json={"terms": [{"id": hit["id"]}], "by": "voice"}).json()
        assert again["hits"][0]["id"] == hit["id"]
        words = server.client.post("/api/search", json={"terms": [{"text": "a penguin"}], "by": "voice"})
        assert words.status_code in (400, 422) and "recordings" in words.text
        everything = server.client.post("/api/search", json={"terms": [{"text": "a penguin"}]}).json()
        assert {one["modality"] for one in everything["hits"]} == {"speech"}
    with running(filled(tmp_path / "b.catalog", plain), plain) as server:
        sent = server.client.post("/api/queries?name=who.ogg", content=PENGUIN.read_bytes(), headers=SENT).json()
        refused = server.client.post("/api/search", json={"terms": [{"ref": sent["ref"]}], "by": "voice"})
        assert refused.status_code == 400 and "migrate CATALOG --voices" in refused.text
