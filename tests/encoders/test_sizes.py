"""A configuration that asks for more than its weights hold is refused before any of it is allocated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.encoders.sizes import make_checked
from embedspace.errors import ConfigError, EmbedspaceError, WeightsError
from embedspace.generate.registry import create_generator
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace
from tests.support.generators import SpaceWithGenerators, write_latent_generator, write_text_generator, write_vocabulary
from tests.support.spaces import write_space

HUGE = 10**12
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_space(tmp_path_factory.mktemp("sizes") / "space")


def _change(config: dict[str, Any], where: tuple[str, ...], value: object) -> dict[str, Any]:
    inner = config
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    return config


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("image", "members"), 10**9),
        (("image", "hidden_dim"), HUGE),
        (("image", "feature_dim"), HUGE),
        (("image", "embed_dim"), HUGE),
        (("image", "classes"), HUGE),
        (("image", "top_k"), HUGE),
        (("image", "network_size"), HUGE),
        (("image", "hidden_dim"), 10**30),
        (("image", "hidden_dim"), -4),
        (("audio", "members"), 10**9),
        (("audio", "hidden_dim"), HUGE),
        (("audio", "classes"), HUGE),
        (("audio", "memory_items"), HUGE),
        (("speech", "members"), 10**9),
        (("speech", "num_layers"), 10**9),
        (("speech", "hidden_dim"), HUGE),
        (("speech", "text_dim"), HUGE),
        (("speech", "text_head", "hidden_dim"), HUGE),
        (("text", "head", "hidden_dim"), HUGE),
        (("text", "head", "embed_dim"), HUGE),
        (("text", "head", "feature_dim"), HUGE),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_space_that_asks_for_too_much_is_one_clear_error(folder: Path, where: tuple[str, ...], value: int) -> None:
    space = EmbeddingSpace.from_pretrained(folder)
    config = json.loads(json.dumps(space.config))
    changed = EmbeddingSpace(folder, _change(config, ("sections", *where), value), space.calibration)
    before = _forget_peak()
    with pytest.raises((WeightsError, ConfigError)) as caught:
        changed.encoder(where[0])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert _memory("VmHWM") - before < 600_000  # KiB: the backbones, no more


def _memory(name: str) -> int:
    """Return a row of this process' status in KiB: VmRSS is what it holds, VmHWM the most since `_forget_peak`."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _forget_peak() -> int:
    """Begin the peak anew, which tests before may have driven up; return what is held now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def test_the_peak_is_seen_after_tests_that_took_more() -> None:
    np.ones(50 << 20)  # 400 MiB, given back at once
    before = _forget_peak()
    assert _memory("VmHWM") - before < 100_000
    np.ones(25 << 20)
    assert _memory("VmHWM") - before > 150_000


def test_looking_at_sizes_does_not_import_torch_s_compiler() -> None:
    """It takes four seconds, and fails where the user has no name, as in many a container."""
    program = """
import sys
from embedspace.space import EmbeddingSpace
space = EmbeddingSpace.from_pretrained()
for modality in space.modalities:
    space.encoder(modality)
for target in ("text", "image", "audio"):
    space.generators[target]
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("value", [0, HUGE, 2.5, "256", None])
def test_the_width_of_a_space_is_a_width(folder: Path, tmp_path: Path, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "embed_dim": value}))
    with pytest.raises(WeightsError, match=r"config\.json"):
        EmbeddingSpace.from_pretrained(tmp_path)


def test_the_memory_of_the_whole_process_stays_small(folder: Path, tmp_path: Path) -> None:
    """As the command line meets it; 4 GB of address space are all that there is, so that a failure harms nobody."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(_change(config, ("sections", "text", "head", "hidden_dim"), HUGE)))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
        "from embedspace.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "embed", "a dog", "--json", "--weights", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "text.safetensors: these weights do not fit" in line and "restore config.json" in line


@pytest.mark.parametrize(
    ("modality", "where", "value"),
    [
        ("text", ("decoder", "layers"), 10**9),
        ("text", ("decoder", "width"), HUGE),
        ("text", ("decoder", "vocabulary"), HUGE),
        ("text", ("decoder", "max_pieces"), HUGE),
        ("text", ("decoder", "prefix"), HUGE),
        ("image", ("autoencoder", "channels"), HUGE),
        ("image", ("autoencoder", "decoder_blocks"), 10**9),
        ("image", ("families", "flow", "channels"), HUGE),
        ("image", ("families", "flow", "blocks"), 10**9),
        ("image", ("families", "flow", "neighbours"), HUGE),
        ("image", ("families", "flow", "multiples"), [HUGE]),
        ("image", ("families", "vae", "code_dim"), HUGE),
        ("audio", ("families", "vae", "channels"), HUGE),
        ("audio", ("spectrogram", "n_mels"), HUGE),
        ("audio", ("spectrogram", "n_fft"), HUGE),
        ("audio", ("spectrogram", "frames"), HUGE),
        ("audio", ("spectrogram", "hop_length"), HUGE),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_generator_that_asks_for_too_much_is_one_clear_error(
    tmp_path: Path, modality: str, where: tuple[str, ...], value: int
) -> None:
    heads = tmp_path / "heads"
    write_vocabulary(heads)
    own = write_text_generator(heads) if modality == "text" else write_latent_generator(heads, modality)
    create_generator(Modality(modality), heads, SpaceWithGenerators(tmp_path))  # type: ignore[arg-type]
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(_change(config, where, value)))
    with pytest.raises(EmbedspaceError) as caught:
        create_generator(Modality(modality), heads, SpaceWithGenerators(tmp_path))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_weights_are_looked_for_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights"):
        make_checked(lambda: pytest.fail("made"), tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(WeightsError, match="corrupt weights"):
        make_checked(lambda: pytest.fail("made"), tmp_path / "bad.safetensors")
