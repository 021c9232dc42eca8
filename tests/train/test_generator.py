"""Generators trained for a few steps on a corpus of a few coloured squares: what is written is what loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from embedspace.errors import ConfigError
from embedspace.generate import Request, create_generator
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace
from embedspace.train.generators.autoencoder import latents_of
from embedspace.train.generators.families import Averaged
from embedspace.train.generators.recipe import load_generator_recipe
from embedspace.train.generators.run import measured_sigma, train_generator
from embedspace.train.generators.texts import OwnVectors
from embedspace.train.loop import FitProgress
from embedspace.vocabulary import load_vocabulary
from tests.support.outside.even import registered_even

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "pink", "grey")


def vector_of(text: str) -> np.ndarray:
    """A vector of the shipped space's width for a text."""
    row = np.random.default_rng(sum(map(ord, text))).standard_normal(256)
    return (row / np.linalg.norm(row)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of squares, with vectors as if the shipped space had made them."""
    folder = tmp_path_factory.mktemp("tiny")
    rows: list[dict[str, Any]] = []
    texts: set[str] = set()
    for source in ("squares", "shy"):
        (folder / "corpora" / source).mkdir(parents=True)
        for number, colour in enumerate(COLOURS):
            path = f"{source}/{colour}.png"
            picture = Image.new("RGB", (40, 30), colour)
            if source == "shy":
                picture.paste("orange", (0, 0, 20, 30))
            picture.save(folder / "corpora" / path)
            row = {"id": f"{source}/{colour}", "modality": "image", "path": path, "source": source, "concept": colour}
            row |= {"licence": "GPL-2.0-only" if number == 5 else "MIT"}
            row |= {"captions": [f"a {colour} square"], "keywords": [colour], "split": "val" if number > 5 else "train"}
            rows.append(row)
            texts.update([row["captions"][0], colour])
        own = [json.dumps(row) for row in rows if row["source"] == source]
        (folder / "corpora" / source / "manifest.jsonl").write_text("\n".join(own))
    prints = EmbeddingSpace.from_pretrained().fingerprints()
    names = sorted(texts)
    store(folder / "features/vectors/text/texts.npz", names, [vector_of(t) for t in names], prints["text"])
    pictures = [r["id"] for r in rows if r["source"] == "squares"]
    near = [vector_of(r["captions"][0]) + 0.02 for r in rows if r["source"] == "squares"]
    store(folder / "features/vectors/image/squares.npz", pictures, near, prints["image"])
    return folder


def store(path: Path, ids: list[str], vectors: list[np.ndarray], fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, ids=np.array(ids), vectors=np.stack(vectors).astype(np.float16), fingerprint=np.array(fingerprint))


def recipe(folder: Path, kind: str, body: str = "") -> Path:
    path = folder / f"{kind}.toml"
    head = f'kind = "{kind}"\ncorpora = "{folder}/corpora"\nfeatures = "{folder}/features"\n'
    path.write_text(head + body)
    return path


TEXT = "[text]\nvocabulary = 300\nwidth = 16\nlayers = 1\nheads = 2\nsteps = 4\nbatch_size = 8\nmax_pieces = 12\n"
IMAGE = """[image]
gallery = ["squares"]
licences = ["MIT"]
size = 32
[image.sources]
squares = 1.0
shy = 1.0
[image.autoencoder]
channels = 8
latent_dim = 4
steps = 4
batch_size = 4
perceptual = PERCEPTUAL
crop = 16
steps_adversarial = 2
[image.families.flow]
channels = 16
steps = 3
batch_size = 4
[image.families.vae]
channels = 16
steps = 3
batch_size = 4
"""


@pytest.mark.parametrize("kind", ["vocabulary", "memory"])  # the second is what earlier versions called it
def test_a_vocabulary_holds_the_training_split_only(built: Path, tmp_path: Path, kind: str) -> None:
    folder = train_generator(recipe(built, kind), out=tmp_path / "run")
    load_vocabulary.cache_clear()
    vocabulary = load_vocabulary(folder)
    assert "a red square" in vocabulary.captions and "red" in vocabulary.captions
    assert "a grey square" not in vocabulary.captions  # validation
    assert len(vocabulary) == 12  # class names have no vectors in this corpus
    assert set(vocabulary.known_cosine) == {"text", "image", "mixed"}


def test_a_generator_of_speech_is_that_of_captions_and_a_voice(built: Path, tmp_path: Path) -> None:
    generators = tmp_path / "heads"
    generators.mkdir()
    for kind, body in (("text", TEXT), ("speech", "")):
        train_generator(recipe(built, kind, body), out=tmp_path / kind).rename(generators / kind)
    made = create_generator(Modality.SPEECH, generators, EmbeddingSpace.from_pretrained())
    assert made.families == ("spoken caption",)


def test_a_generator_of_captions_is_written_and_resumed(built: Path, tmp_path: Path) -> None:
    path = recipe(built, "text", TEXT)
    seen: list[str] = []
    folder = train_generator(path, out=tmp_path / "run", callback=lambda p: seen.append(p.stage))
    assert set(seen) == {"text"}
    whole = torch.load(tmp_path / "run" / "text.ckpt", weights_only=True)
    config = json.loads((folder / "config.json").read_text())
    assert config["sigma"]["text"] == 0.0
    assert 0.0 < config["sigma"]["image"] < 1.0
    stopped = tmp_path / "stopped"
    train_generator(path, out=stopped, minutes=0.0)
    assert torch.load(stopped / "text.ckpt", weights_only=True)["step"] == 1
    train_generator(path, out=stopped, resume=True)
    again = torch.load(stopped / "text.ckpt", weights_only=True)
    assert again["step"] == whole["step"] == 4
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(again["model"][name], tensor)


@pytest.mark.parametrize("perceptual", ["0.0", "0.5"])
def test_a_generator_of_pictures_is_written_and_draws(built: Path, tmp_path: Path, perceptual: str) -> None:
    generators = tmp_path / "heads"
    path = recipe(built, "image", IMAGE.replace("PERCEPTUAL", perceptual))
    generators.mkdir()
    train_generator(path, out=tmp_path / "run").rename(generators / "image")
    space = EmbeddingSpace.from_pretrained()
    made: Any = create_generator(Modality.IMAGE, generators, space)
    assert made.families == ("flow", "vae")
    # nothing shy, nothing held out, nothing under a licence that lets no copy ship
    assert sorted(made.neighbours.items) == sorted(f"squares/{c}" for c in COLOURS[:6] if c != COLOURS[5])
    vectors = vector_of("red")[None]
    for family in made.families:
        steps = 2 if family == "flow" else None
        request = Request(3, seed=2, num_steps=steps, family=family, size=48)
        (samples,) = made.generate(vectors, np.zeros(1, np.float32), request)
        assert [s.content.shape for s in samples] == [(48, 48, 3)] * 3
        assert all(s.content.dtype == np.uint8 for s in samples)
        assert [s.seed for s in samples] == [2, 3, 4]
        assert samples[0].provenance["nearest_output"]["item"].startswith("squares/")
        alone = made.generate(
            vectors, np.zeros(1, np.float32), Request(1, seed=4, num_steps=steps, family=family, size=48)
        )
        assert int(np.abs(alone[0][0].content.astype(int) - samples[2].content).max()) <= 1
        both = np.stack([vector_of("blue"), vector_of("red")])
        (_, again) = made.generate(both, np.zeros(2, np.float32), request)  # whatever else is in the batch
        assert [s.seed for s in again] == [2, 3, 4]
        for one, other in zip(samples, again, strict=True):
            assert int(np.abs(one.content.astype(int) - other.content).max()) <= 1
            assert one.provenance["context"] == other.provenance["context"]
    pictures = made.neighbour_pictures(vector_of("a blue square"), "mixed", space, 2)
    assert pictures[0][0].caption == "a blue square"


def test_a_generator_beside_a_space_is_the_spaces(built: Path, tmp_path: Path) -> None:
    folder = train_generator(recipe(built, "image", IMAGE.replace("PERCEPTUAL", "0.0")), out=tmp_path / "run")
    space = EmbeddingSpace.from_pretrained()
    saved = space.save(tmp_path / "space")
    (saved / "heads").mkdir()
    folder.rename(saved / "heads" / "image")
    (samples,) = EmbeddingSpace.from_pretrained(saved).generate(
        vector_of("red"), to="image", num_samples=2, num_steps=1, seed=5
    )
    assert samples[1].provenance["seed"] == 6
    assert samples[0].content.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('kind = "smell"', "kind must be one of"),
        ('kind = "text"\n[text]\nwidht = 3', "unknown key 'widht'"),
        ('kind = "image"\n[image.families.flow]\nchannels = "x"', "image.families.flow: channels: must be a whole"),
        ('kind = "image"\n[image.families.smoke]', "image.families.smoke: unknown family 'smoke'; known: .*flow, "),
        ('kind = "image"\n[image.families]\nflow = 3', "image.families: must be tables, one per family"),
        ("kind = ", "not a TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, body: str, what: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(body)
    with pytest.raises(ConfigError, match=what):
        load_generator_recipe(path)
    with pytest.raises(ConfigError, match="no such recipe"):
        load_generator_recipe(tmp_path / "none.toml")


@pytest.fixture
def even_family() -> Iterator[None]:
    with registered_even():
        yield


@pytest.mark.usefixtures("even_family")
def test_a_family_from_outside_is_added_to_a_generator(built: Path, tmp_path: Path) -> None:
    """One file registers it; recipes, the loop, checkpoints and loading know it by its name."""
    out, body = tmp_path / "run", IMAGE.replace("PERCEPTUAL", "0.0")
    path = recipe(built, "image", body + "[image.families.level]\ntype = 'even'\nsteps = 4\nlevel = 9.0\n")
    before = {p.name: p.read_bytes() for p in train_generator(path, out=out, families=["vae"]).iterdir()}
    seen: list[FitProgress] = []
    folder = train_generator(path, out=out, families=["level"], callback=seen.append)
    assert {told.stage for told in seen if "loss" in told.scalars} == {"level"}  # nothing else is trained again
    assert {"loss", "critic", "held_loss"} <= set(seen[-1].scalars)
    for name in ("autoencoder.safetensors", "gallery.safetensors", "vae.safetensors"):
        assert (folder / name).read_bytes() == before[name]
    assert not any("critic" in name for name in load_file(folder / "level.safetensors"))
    state = torch.load(out / "level.ckpt", weights_only=True)["model"]
    assert 8.0 < float(state["live.level"]) < 9.0
    assert "live.critic.weight" in state
    folder.rename(tmp_path / "image")
    made: Any = create_generator(Modality.IMAGE, tmp_path, EmbeddingSpace.from_pretrained())
    assert made.families == ("vae", "level")
    ((sample,),) = made.generate(vector_of("red")[None], np.zeros(1, np.float32), Request(num_steps=1, family="level"))
    assert sample.content.shape == (32, 32, 3)


def test_families_are_trained_on_the_latents_of_a_generator(built: Path, tmp_path: Path) -> None:
    body = IMAGE.replace("PERCEPTUAL", "0.0")
    first = train_generator(recipe(built, "image", body), out=tmp_path / "first", families=["vae"])
    there = body.replace("[image]", f"[image]\nlatents = '{first}'")
    folder = train_generator(recipe(built, "image", there), out=tmp_path / "second", families=["flow"])
    assert (folder / "autoencoder.safetensors").read_bytes() == (first / "autoencoder.safetensors").read_bytes()
    assert list(json.loads((folder / "config.json").read_text())["families"]) == ["flow"]
    train_generator(recipe(built, "image", there), out=tmp_path / "second", families=["flow"], resume=True)
    train_generator(recipe(built, "image", there), out=tmp_path / "second", families=["vae"], minutes=0)
    trained = json.loads((folder / "config.json").read_text())["trained"]
    steps = load_generator_recipe(recipe(built, "image", there)).image.families["flow"].config.steps
    assert trained["flow"]["steps"] == steps and trained["flow"]["minutes"] > 0
    assert trained["vae"]["steps"] == 1  # its minutes were over
    with pytest.raises(ConfigError, match="latents: no generator in nowhere"):
        train_generator(recipe(built, "image", body.replace("[image]", "[image]\nlatents = 'nowhere'")), out=tmp_path)
    with pytest.raises(ConfigError, match="a generator of text has no families to choose from"):
        train_generator(recipe(built, "text", TEXT), out=tmp_path, families=["flow"])


def test_latents_that_were_encoded_once_are_read(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = IMAGE.replace("PERCEPTUAL", "0.0")
    first = train_generator(recipe(built, "image", body), out=tmp_path / "first", families=["vae"])
    there = body.replace("[image]", f"[image]\nlatents = '{first}'")
    shutil.rmtree(built / "features/latents", ignore_errors=True)
    encoded: list[int] = []

    def counted(network: Any, media: Any, mirror: bool = False) -> torch.Tensor:
        encoded.append(len(media.items))
        return latents_of(network, media, mirror)

    monkeypatch.setattr("embedspace.train.generators.latents.latents_of", counted)
    folders, counts = [], []
    for name in ("second", "third"):
        encoded.clear()
        folders.append(train_generator(recipe(built, "image", there), out=tmp_path / name, families=["vae"]))
        counts.append(sum(encoded))
    assert counts[1] < counts[0]  # the held-out ones only
    assert folders[0].joinpath("vae.safetensors").read_bytes() == folders[1].joinpath("vae.safetensors").read_bytes()


def test_vectors_of_other_weights_are_refused(built: Path, tmp_path: Path) -> None:
    store(tmp_path / "features/vectors/text/texts.npz", ["a"], [vector_of("a")], "other")
    (tmp_path / "corpora").symlink_to(built / "corpora")
    with pytest.raises(ConfigError, match="made with other weights"):
        train_generator(recipe(tmp_path, "memory"), out=tmp_path / "run")
    (tmp_path / "features/vectors/text/texts.npz").unlink()
    with pytest.raises(ConfigError, match="no vectors there; encode the text items"):
        train_generator(recipe(tmp_path, "memory"), out=tmp_path / "run")


def test_every_shipped_recipe_reads() -> None:
    folder = Path(__file__).resolve().parents[2] / "training/recipes/generators"
    assert {load_generator_recipe(path).kind for path in folder.glob("*.toml")} >= {"vocabulary", "text", "image"}


def test_the_average_follows_the_weights() -> None:
    pair = Averaged(nn.Linear(1, 1), decay=0.5)
    before = pair.average.weight.clone()
    with torch.no_grad():
        pair.live.weight.fill_(3.0)
    pair.update()  # the first update keeps a tenth
    torch.testing.assert_close(pair.average.weight, 0.1 * before + 0.9 * 3.0)
    for _ in range(40):
        pair.update()
    assert pair.average.weight.item() == pytest.approx(3.0, abs=1e-4)
    assert not any(p.requires_grad for p in pair.average.parameters())


class Unmeasured:
    """A run without vectors of pictures, and with sounds that no caption has a vector for."""

    def __init__(self) -> None:
        self.told: list[FitProgress] = []

    def own(self, modality: str) -> OwnVectors | None:
        return OwnVectors(modality, np.ones((1, 8), np.float32), [{}], None) if modality == "audio" else None

    def tell(self, progress: FitProgress) -> None:
        self.told.append(progress)


def test_noise_that_nothing_measures_is_assumed_and_said() -> None:
    run = Unmeasured()
    assert measured_sigma(run) == {"text": 0.0, "audio": 1.0, "mixed": 0.5}  # type: ignore[arg-type]
    assert [progress.scalars for progress in run.told] == [{"audio": 1.0, "mixed": 0.5}]
    assert "noise assumed" in run.told[0].stage
