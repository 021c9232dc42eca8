"""A sixth modality, "depth", comes from outside: two files, and not a line of the package is changed for it."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from embedspace import modality as modalities
from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.cli import main
from embedspace.encoders import registry
from embedspace.encoders.base import save_tensors
from embedspace.errors import ConfigError, MediaError
from embedspace.evaluate import evaluate_suite, load_suite
from embedspace.modality import Modality, ModalitySpec, register_modality
from embedspace.query.composition import compose
from embedspace.space import EmbeddingSpace, write_config
from tests.support.spaces import EMBED_DIM, check_rows

if TYPE_CHECKING:
    from tests.support.outside import encoder_depth

SHAPES = {"a ramp to the left": (1, 0), "a ramp to the right": (-1, 0), "a hill above": (0, 1), "a hill below": (0, -1)}


def depth_map(caption: str, seed: int, side: int = 24) -> NDArray[np.float32]:
    """Return (side, side) metres that fall off towards one side, with noise."""
    across, down = SHAPES[caption]
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    noise = 0.1 * np.random.default_rng(seed).standard_normal((side, side))
    return (2 + across * x + down * y + noise).astype(np.float32)


@pytest.fixture
def depth(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[encoder_depth.DepthEncoder]]:
    """Import what the other package is; afterwards nothing of it is known any more."""
    monkeypatch.setitem(modalities.SUFFIXES, ".npy", "depth")
    for name in [name for name in sys.modules if name.startswith("tests.support.outside.")]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("tests.support.outside.encoder_depth")
    yield module.DepthEncoder
    modalities._SPECS.pop("depth", None)  # nothing else: modules imported meanwhile have registered theirs for good
    for known in (registry._TYPES, registry._FACTORIES):
        known.pop("test.depth", None)
    for name in [name for name in sys.modules if name.startswith("tests.support.outside.")]:
        del sys.modules[name]


@pytest.fixture
def folder(tiny_space_folder: Path, tmp_path: Path, depth: type[encoder_depth.DepthEncoder]) -> Path:
    """A space with a depth encoder that was trained here, on pairs of maps and captions."""
    space = EmbeddingSpace.from_pretrained(tiny_space_folder)
    captions = [caption for caption in SHAPES for _ in range(16)]
    maps = [depth_map(caption, seed) for seed, caption in enumerate(captions)]
    texts = torch.from_numpy(space.encode_text(list(SHAPES)))
    encoder = depth(EMBED_DIM)
    inputs = torch.stack([encoder.prepare(one) for one in maps])
    targets = torch.tensor([list(SHAPES).index(caption) for caption in captions])
    optimizer = torch.optim.Adam(encoder.project.parameters(), lr=0.05)
    torch.manual_seed(0)
    for _ in range(150):
        rows = F.normalize(encoder.project(inputs), dim=-1)
        logits = 100 * rows @ texts.T  # (maps, captions); as in any contrastive training, both ways
        found = logits.log_softmax(dim=0)[torch.arange(len(maps)), targets]
        loss = F.cross_entropy(logits, targets) - found.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    copy = Path(shutil.copytree(tiny_space_folder, tmp_path / "space"))
    save_tensors(encoder.project, copy / "depth.safetensors", lambda tensors: tensors)
    section = {"type": "test.depth", "embed_dim": EMBED_DIM, "weights": "depth.safetensors"}
    write_config(copy, {**space.config["sections"], "depth": section}, EMBED_DIM)
    return copy


def _write_maps(folder: Path, first_seed: int = 1000, each: int = 2) -> dict[str, str]:
    """Write maps that nothing was trained on; file name -> caption."""
    folder.mkdir()
    said = {}
    for number, caption in enumerate(caption for caption in SHAPES for _ in range(each)):
        name = f"map{number}.npy"
        np.save(folder / name, depth_map(caption, first_seed + number))
        said[name] = caption
    return said


def test_a_modality_from_outside_is_indexed_and_searched(folder: Path, tmp_path: Path) -> None:
    said = _write_maps(tmp_path / "maps")
    (tmp_path / "maps" / "bad.npy").write_bytes(b"no array")
    space = EmbeddingSpace.from_pretrained(folder)
    assert space.supports("depth") and not space.supports("smell")
    check_rows(space.encode([tmp_path / "maps" / "map0.npy", {"depth": depth_map("a hill above", 7)}]), 2)
    path = tmp_path / "catalog"
    made = {"embed_dim": EMBED_DIM, "fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
    with Catalog.create(path, **made) as catalog:
        report = ingest(catalog, [tmp_path / "maps"], space)
        assert (report.added, [Path(failure.uri).name for failure in report.failed]) == (len(said), ["bad.npy"])
        assert catalog.info().segments == {"depth": len(said)}
    with Catalog.open(path, read_only=True) as catalog:
        catalog.check_fingerprint(space.fingerprints())
        for caption in SHAPES:
            query = compose(f'"{caption}"', space)
            (hits,) = catalog.search(query.vector, query_modality=query.modality, k=2, to="depth")
            assert [said[Path(hit.uri).name] for hit in hits] == [caption, caption]
            assert {hit.kind for hit in hits} == {"depth"}
        query = compose(str(tmp_path / "maps" / "map0.npy"), space)
        assert query.modality == "depth"
        (hits,) = catalog.search(query.vector, query_modality="depth", k=2)
        assert {Path(hit.uri).name for hit in hits} == {"map0.npy", "map1.npy"}  # maps of one caption are near alike
        mixed = compose(f"{tmp_path}/maps/map0.npy + {next(iter(SHAPES))!r}", space)
        assert mixed.modality == "mixed"


def test_a_modality_from_outside_has_a_fingerprint_that_follows_its_weights(folder: Path) -> None:
    before = EmbeddingSpace.from_pretrained(folder).fingerprints()
    weights = folder / "depth.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    space = EmbeddingSpace.from_pretrained(folder)
    with pytest.raises(Exception, match=r"depth\.safetensors: its checksum is not the one"):
        space.encoder("depth")
    write_config(folder, space.config["sections"], EMBED_DIM)
    now = EmbeddingSpace.from_pretrained(folder).fingerprints()
    assert {name for name in before if before[name] != now[name]} == {"depth"}


def test_the_command_line_knows_a_modality_from_outside(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _write_maps(tmp_path / "maps", each=1)
    catalog, caption = str(tmp_path / "catalog"), "a hill below"
    assert main(["index", str(tmp_path / "maps"), "--catalog", catalog, "--weights", str(folder), "--quiet"]) == 0
    asked = ["search", catalog, f'"{caption}"', "--to", "depth", "-k", "1", "--json", "--weights", str(folder)]
    assert main(asked) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["modality"], said[Path(record["uri"]).name]) == ("depth", caption)


def test_a_modality_from_outside_is_evaluated(folder: Path, tmp_path: Path) -> None:
    said = _write_maps(tmp_path / "maps", each=3)
    lines = [
        json.dumps({"id": name, "modality": "depth", "path": f"maps/{name}", "captions": [caption], "concept": caption})
        for name, caption in said.items()
    ]
    (tmp_path / "maps" / "manifest.jsonl").write_text("\n".join(lines))
    (tmp_path / "suite.toml").write_text(
        'name = "depth"\ndescription = "maps"\nresamples = 10\n'
        '[sets.depth]\nmanifests = ["maps"]\nmodality = "depth"\nkey = "concept"\n'
        '[sets.text]\nmanifests = ["maps"]\nmodality = "text"\nkey = "concept"\nfirst_by = "concept"\n'
        '[[directions]]\nquery = "depth"\ngallery = "text"\n'
    )
    suite = load_suite(tmp_path / "suite.toml")
    report = evaluate_suite(EmbeddingSpace.from_pretrained(folder), suite, corpora=tmp_path)
    assert report.result("depth", "text").metrics["recall_at_1"].value == 1.0
    assert report.failures == {}


def test_registration_refuses_what_is_taken(depth: object) -> None:
    assert register_modality(modalities.modality_spec("depth")).name == "depth"  # the same once more is no harm
    with pytest.raises(ConfigError, match="modality 'depth' is registered twice"):
        register_modality(ModalitySpec("depth", (".dep",), "elsewhere:decode"))
    with pytest.raises(ConfigError, match=r"\.png files are 'image' already"):
        register_modality(ModalitySpec("scan", (".png",), "elsewhere:decode"))
    with pytest.raises(ConfigError, match="one word in lower case"):
        register_modality(ModalitySpec("Heat Map", (".heat",), "elsewhere:decode"))
    with pytest.raises(ConfigError, match=r"encoder type 'tower' is registered twice"):
        importlib.import_module("embedspace.encoders.tower")
        registry.register_encoder("tower")(lambda section, folder, modality: None)  # type: ignore[arg-type, return-value]


def test_without_the_other_package_nothing_is_known_of_it() -> None:
    assert "depth" not in modalities.modality_names()
    assert ".npy" not in modalities.SUFFIXES
    assert [*modalities.modality_names()] == list(Modality)


def test_a_reader_says_what_is_wrong_with_a_file(tmp_path: Path, depth: object) -> None:
    reader = importlib.import_module("tests.support.outside.media_depth")
    np.save(tmp_path / "flat.npy", np.zeros(3, np.float32))
    with pytest.raises(MediaError, match=r"flat\.npy: a depth map is \(H, W\) of floats"):
        reader.read_depth(tmp_path / "flat.npy")
