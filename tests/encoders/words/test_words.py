"""Words without torch: the same rows as torch's network gives, and no torch loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.encoders.backbones import WEIGHTS
from embedspace.encoders.shipped import text as shipped
from embedspace.encoders.shipped.text import TextEncoder
from embedspace.encoders.shipped.text_network import TextNetwork, load_text_network
from embedspace.encoders.words.network import NumpyLinearProjection, NumpyMiniLM, _gelu
from embedspace.errors import WeightsError
from embedspace.space import DEFAULT_WEIGHTS, EmbeddingSpace
from embedspace.space.config import read_config

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [
    "a red bicycle",
    "a",
    "",
    " \t\n ",
    "?!...",
    "0 1 2 3.14159",
    "Wi-Fi naïve café ÀÉÎ",
    "ein rotes Fahrrad lehnt an der Mauer",
    "красный велосипед",
    "赤い自転車が壁に立てかけてある",
    "دراجة حمراء",
    "🚲🚲 🟥",
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
    "x" * 3000,
    "the quick brown fox jumps over the lazy dog. " * 12,
    "a barking dog runs along the beach while waves break " * 80,
    "dog " * 254,
    "dog " * 255,
]


@pytest.fixture(scope="module")
def section() -> dict[str, Any]:
    return dict(read_config(DEFAULT_WEIGHTS)["sections"]["text"])


@pytest.fixture(scope="module")
def encoder(section: dict[str, Any]) -> TextEncoder:
    return TextEncoder(section, DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def network(section: dict[str, Any]) -> TextNetwork:
    return load_text_network(section, DEFAULT_WEIGHTS)


def in_numpy(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    return encoder.projection(encoder.backbone([encoder.prepare(text) for text in texts]))


def test_rows_are_those_of_torch_alone_and_in_a_batch(encoder: TextEncoder, network: TextNetwork) -> None:
    expected = network.encode([network.prepare(text) for text in TEXTS])
    together = in_numpy(encoder, TEXTS)
    assert together.dtype == np.float32 and together.shape == (len(TEXTS), 256)
    np.testing.assert_allclose(together, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(in_numpy(encoder, [text])[0], row, atol=1e-5, rtol=0, err_msg=text[:40])
    assert len(np.unique(together.round(2), axis=0)) >= 14  # the texts do differ


def test_word_pieces_are_those_of_torch(encoder: TextEncoder, network: TextNetwork) -> None:
    for text in TEXTS:
        ours, theirs = encoder.prepare(text), network.prepare(text)
        assert [window.tolist() for window in ours] == [window.tolist() for window in theirs]
        assert encoder.unknown(text) == network.unknown(text)
        assert encoder.words_of(text) == network.words_of(text)
    assert encoder.unknown("🚲") == ["🚲"] and encoder.words_of("a bicycle") == [["a"], ["bicycle"]]


def test_gelu_is_that_of_torch() -> None:
    x = np.linspace(-9, 9, 40_001, dtype=np.float32)[:, None]
    expected = torch.nn.functional.gelu(torch.from_numpy(x.astype(np.float64))).numpy()
    _gelu(x)
    np.testing.assert_allclose(x, expected, atol=2e-6, rtol=0)


def test_a_long_text_is_the_mean_of_its_windows(encoder: TextEncoder) -> None:
    first, second = np.array([101, 3899, 102]), np.array([101, 2482, 2003, 2417, 102])
    means = encoder.backbone._encode([first, second])
    mixed = (3 * means[0] + 5 * means[1]) / 8
    np.testing.assert_allclose(encoder.backbone([[first, second]])[0], mixed / np.linalg.norm(mixed), atol=1e-6, rtol=0)


def test_few_words_are_numpys_and_many_are_torchs_once_it_is_there(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = [encoder.prepare("a dog")], [encoder.prepare(f"a {name} " * 100) for name in ("dog", "car", "fox")]
    asked: list[int] = []
    make = encoder._in_torch
    monkeypatch.setattr(encoder, "_in_torch", lambda: asked.append(1) or make())
    encoder.encode(few), encoder.encode_query(few)
    assert asked == []
    expected = encoder.encode_query(many)
    assert asked == [1]
    monkeypatch.delitem(sys.modules, "torch")  # as in a process that has not loaded it
    np.testing.assert_allclose(encoder.encode_query(many), expected, atol=1e-5, rtol=0)
    monkeypatch.setattr(encoder, "_read", 0)
    encoder.encode(many)
    assert asked == [1]
    monkeypatch.setattr(shipped, "_IMPORT_PIECES", 1000)
    encoder.encode(many)
    assert asked == [1, 1]
    encoder.encode_query(many)
    assert asked == [1, 1]  # a search never imports it
    assert encoder.encode([]).shape == (0, 256)


def test_another_device_is_torchs(encoder: TextEncoder) -> None:
    assert encoder.on_device("cpu") is encoder
    moved = encoder.on_device("meta")
    assert isinstance(moved, TextNetwork) and next(moved.parameters()).device.type == "meta"
    encoder._network = None  # its weights are gone


def test_a_head_without_a_residual(section: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    tensors = {"linear.weight": rng.normal(size=(8, 6)), "linear.bias": rng.normal(size=8)}
    head = NumpyLinearProjection(tensors, (6, 8, 0), "x")
    features = rng.normal(size=(3, 6)).astype(np.float32)
    expected = features @ tensors["linear.weight"].T + tensors["linear.bias"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(head(features), expected, atol=1e-5)
    with pytest.raises(WeightsError, match=r"x: missing residual\.0\.bias"):
        NumpyLinearProjection(tensors, (6, 8, 2), "x")
    with pytest.raises(WeightsError, match=r"x: linear\.weight is \(8, 6\), should be \(8, 7\)"):
        NumpyLinearProjection(tensors, (7, 8, 0), "x")


def test_damaged_weights_are_one_clear_error(tmp_path: Path) -> None:
    whole = (WEIGHTS / "minilm_l6.safetensors").read_bytes()
    path = tmp_path / "minilm_l6.safetensors"
    with pytest.raises(WeightsError, match="no weights for backbone 'minilm_l6' there"):
        NumpyMiniLM.read("minilm_l6", path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="corrupt weights"):
        NumpyMiniLM.read("minilm_l6", path)
    path.write_bytes(whole)
    with pytest.raises(WeightsError, match="holds backbone 'minilm_l6', not 'another'"):
        NumpyMiniLM.read("another", path)
    with pytest.raises(WeightsError, match="no backbone's configuration in it"):
        NumpyMiniLM.read("minilm_l6", DEFAULT_WEIGHTS / "text.safetensors")


def test_few_words_are_encoded_in_one_thread_and_it_is_as_before_afterwards(section: dict[str, Any]) -> None:
    code = (
        "from embedspace.encoders.shipped.text import TextEncoder\n"
        "from embedspace.encoders.words import network, threads\n"
        "from embedspace.space import DEFAULT_WEIGHTS\n"
        "counts = lambda: {library['num_threads'] for library in threads._libraries().info()}\n"
        "seen, mapped = [], network._mapped\n"
        "network._mapped = lambda *given: seen.append(counts()) or mapped(*given)\n"
        f"encoder = TextEncoder({section!r}, DEFAULT_WEIGHTS)\n"
        "assert counts() == {2}, counts()\n"
        "encoder.encode_query([encoder.prepare('a dog')])\n"
        "assert set(map(frozenset, seen)) == {frozenset({1})}, seen\n"
        "assert counts() == {2}, counts()\n"
        "seen.clear(), encoder.encode_query([encoder.prepare('a dog ' * 90)] * 2)\n"
        "assert set(map(frozenset, seen)) == {frozenset({2})}, seen\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def test_words_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from embedspace.query import compose\n"
        "from embedspace.space import EmbeddingSpace\n"
        "space = EmbeddingSpace.from_pretrained()\n"
        "query = compose('2:a red bicycle + grass - rain', space)\n"
        "assert query.document_vectors is None and query.unknown_note == ''\n"
        "space.encode_query(['a dog ' * 400] * 3), space.encode_text('x'), space.encode('a dog')\n"
        "space.names(query.vector[None], 'text'), space.unknown_words('🚲')\n"
        "heavy = {'torch', 'torchaudio', 'transformers', 'PIL', 'av', 'soundfile', 'faiss'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_fingerprints_are_what_they_were() -> None:
    found = {name: digest[:8] for name, digest in EmbeddingSpace.from_pretrained().fingerprints().items()}
    assert found == {
        "text": "3c81433f",
        "image": "80675dc9",
        "audio": "0239aa00",
        "speech": "d81395e5",
        "video": "2aa76da0",
    }
