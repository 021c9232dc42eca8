from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from embedspace.encoders.quantize import to_rows8
from embedspace.errors import WeightsError
from embedspace.generate import Request, create_generator
from embedspace.generate.candidates.drawn import batches, best_of
from embedspace.generate.candidates.looks import FILE
from embedspace.generate.conditioning import Condition
from embedspace.generate.families import flow
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig, kl_divergence
from embedspace.generate.latents.blocks import embed_scalar
from embedspace.generate.latents.edits import options_for
from embedspace.generate.latents.neighbours import Neighbours, load_neighbours
from embedspace.generate.latents.unet import LatentUNet, UNetConfig
from embedspace.modality import Modality
from embedspace.vocabulary import Neighbour
from tests.support.cli_space import DIM as SPACE_DIM
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator

DIM = 16


def _unet(**changes: int) -> LatentUNet:
    torch.manual_seed(0)
    size = {"latent_dim": 2, "height": 4, "width": 4, "embed_dim": DIM, "neighbours": 2, "channels": 16, "blocks": 1}
    network = LatentUNet(UNetConfig(**{**size, **changes}))
    torch.nn.init.normal_(network.out.weight, std=0.1)  # a new network gives nothing
    return network.eval()


def _condition(rows: int, context: bool = True) -> Condition:
    generator = torch.Generator().manual_seed(1)
    vector = F.normalize(torch.randn(rows, DIM, generator=generator), dim=1)
    near = torch.randn(rows, 2, 2, 4, 4, generator=generator) if context else None
    return Condition(vector, torch.full((rows,), 0.5), near)


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class _Straight:
    """A flow whose paths are known: every point goes to the target of its condition."""

    shape = (1, 2, 2)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.calls += 1
        target = condition.vector[:, :1, None, None]
        return (target - latents) / (1 - time[:, None, None, None])


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_flow_arrives_where_straight_paths_lead(steps: int) -> None:
    network = _Straight()
    condition = Condition(torch.tensor([[0.7], [-2.0]]), torch.zeros(2))
    made = flow.follow(network, condition, _generators(0, 1), SampleOptions(num_steps=steps))
    torch.testing.assert_close(made, torch.tensor([0.7, -2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))
    assert network.calls == steps


def test_guidance_goes_beyond_the_condition() -> None:
    condition = Condition(torch.tensor([[1.0]]), torch.zeros(1))
    options = SampleOptions(num_steps=1, guidance_scale=3.0)
    made = flow.follow(_Straight(), condition, _generators(0), options)
    torch.testing.assert_close(made, torch.full((1, 1, 2, 2), 3.0))


def test_flow_loss_is_nothing_for_the_true_velocity() -> None:
    data = torch.randn(5, 1, 2, 2)

    class Knows(_Straight):
        def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
            return (data - latents) / (1 - time[:, None, None, None])

    condition = Condition(torch.zeros(5, 1), torch.zeros(5))
    assert flow.flow_loss(Knows(), data, condition).item() == pytest.approx(0.0, abs=1e-6)
    assert flow.flow_loss(_Straight(), data, condition).item() > 0.1


def test_unet_reads_time_vector_noise_and_neighbours() -> None:
    network, condition = _unet(), _condition(1)
    for block in network.modules():
        if hasattr(block, "conv2"):
            torch.nn.init.normal_(block.conv2.weight, std=0.1)
    x, time = torch.randn(1, 2, 4, 4), torch.tensor([0.3])
    with torch.inference_mode():
        base = network(x, time, condition)
        others = [
            network(x, torch.tensor([0.9]), condition),
            network(x, time, Condition(-condition.vector, condition.sigma, condition.context)),
            network(x, time, Condition(condition.vector, condition.sigma + 1, condition.context)),
            network(x, time, Condition(condition.vector, condition.sigma, -condition.context)),
        ]
        nothing = network(x, time, Condition(condition.vector, condition.sigma, None))
        zeros = network(x, time, Condition(condition.vector, condition.sigma, torch.zeros_like(condition.context)))
    assert all(not torch.allclose(base, other, atol=1e-6) for other in others)
    torch.testing.assert_close(nothing, zeros)


def test_unet_takes_a_grid_that_does_not_halve_evenly() -> None:
    network = _unet(height=5, width=7)
    condition = Condition(torch.zeros(1, DIM), torch.zeros(1))
    assert network(torch.zeros(1, 2, 5, 7), torch.zeros(1), condition).shape == (1, 2, 5, 7)


@pytest.mark.parametrize("channels", [1, 3])
def test_autoencoder_keeps_the_shape_and_standardises(channels: int) -> None:
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(in_channels=channels, channels=8, latent_dim=4, decoder_blocks=1)).eval()
    x = torch.rand(6, channels, 16, 32) * 2 - 1
    with torch.inference_mode():
        network.standardise(network.posterior(x)[0])
        latents = network.encode(x)
        assert latents.shape == (6, 4, 2, 4)
        torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
        torch.testing.assert_close(
            network.decode(latents), network.decoder(network.posterior(x)[0]), atol=1e-4, rtol=1e-3
        )


def test_kl_divergence_is_that_of_normals() -> None:
    mean, log_variance = torch.tensor([0.5]), torch.tensor([-0.3])
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected.squeeze())


def test_embed_scalar_tells_near_values_apart() -> None:
    rows = embed_scalar(torch.tensor([0.0, 0.001, 1.0]), 32)
    assert rows.shape == (3, 32)
    assert float((rows[0] - rows[1]).norm()) > 0.5


def _neighbours() -> Neighbours:
    generator = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(5, DIM, generator=generator), dim=1)
    return Neighbours(keys, torch.randn(5, 2, 4, 4, generator=generator), list("abcde"), list("ABCDE"))


def test_neighbours_finds_by_name_and_never_the_item_itself(tmp_path: Path) -> None:
    _neighbours().save(tmp_path)
    items = load_neighbours(tmp_path)
    rows, cosines = items.nearest(items.keys[2:4], 2)
    assert rows[:, 0].tolist() == [2, 3]
    assert cosines[0, 0] == pytest.approx(1.0, abs=1e-3)
    without, _ = items.nearest(items.keys[2:4], 4, exclude=torch.tensor([2, -1]))
    assert 2 not in without[0].tolist()
    assert without[1, 0] == 3


def test_neighbours_sees_a_copy() -> None:
    items = _neighbours()
    (copy,) = items.nearest_output(items.latents[1:2] + 0.05)
    assert (copy.item, copy.caption, copy.of) == ("b", "B", "output")
    assert copy.similarity > 0.98
    (other,) = items.nearest_output(torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(9)))
    assert other.similarity < 0.7


def test_neighbours_refuses_what_does_not_match(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="do not match"):
        Neighbours(torch.zeros(2, DIM), torch.zeros(1, 2, 4, 4), ["a", "b"], ["A", "B"])
    with pytest.raises(WeightsError, match="no training items"):
        load_neighbours(tmp_path)
    _neighbours().save(tmp_path)
    (tmp_path / "gallery.json").write_text('{"shape": [3, 3, 3], "items": [], "captions": []}')
    with pytest.raises(WeightsError, match="no training items"):
        load_neighbours(tmp_path)


def test_a_flow_may_begin_at_a_neighbour() -> None:
    class Still(_Straight):
        """No velocity: what comes out is where it began."""

        def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
            self.calls += 1
            self.first = time if self.calls == 1 else self.first
            return torch.zeros_like(latents)

    context = torch.full((1, 2, 1, 2, 2), 3.0)
    condition = Condition(torch.ones(1, 1), torch.zeros(1), context)
    options, later = SampleOptions(num_steps=4), SampleOptions(num_steps=4, start=0.75)
    noise = flow.follow(Still(), condition, _generators(5), options)
    network = Still()
    made = flow.follow(network, condition, _generators(5), later)
    torch.testing.assert_close(made, 0.25 * noise + 0.75 * 3.0)
    assert float(network.first) == 0.75
    alone = Condition(condition.vector, condition.sigma)
    torch.testing.assert_close(flow.follow(Still(), alone, _generators(5), later), noise)
    arrived = flow.follow(_Straight(), condition, _generators(5), later)
    torch.testing.assert_close(arrived, torch.ones(1, 1, 2, 2))


def test_a_near_copy_is_drawn_again_from_earlier(tmp_path: Path) -> None:
    heads = tmp_path / "space" / "heads"
    options = {"num_steps": 2, "start": 0.4, "copy_similarity": 0.9}
    write_latent_generator(heads, "image", options=options)
    head: Any = create_generator(Modality.IMAGE, heads, SpaceWithGenerators(tmp_path / "space"))
    drawn: list[tuple[float, int]] = []

    class Copying(flow.FlowFamily):
        def sample(self, module: Any, condition: Condition, generators: Any, options: SampleOptions) -> torch.Tensor:
            drawn.append((options.start, len(condition.vector)))
            made = torch.stack([torch.randn(2, 2, 2, generator=one) for one in generators])
            if options.start == 0.4:  # the first of the batch comes out as a training item
                made[0] = head.neighbours.latents[3]
            return made

    head.networks = {**head.networks, "flow": dataclasses.replace(head.networks["flow"], family=Copying())}
    vectors, sigma = np.stack([vector_of("a dog")] * 2), np.zeros(2, np.float32)
    first, second = (samples[0] for samples in head.generate(vectors, sigma, Request(seed=3)))
    assert drawn[:2] == [(0.4, 2), (pytest.approx(0.32), 1)]
    assert "near_copy" not in first.provenance
    np.testing.assert_array_equal(first.content, second.content)  # the same seed, now that it is no copy
    head.sampling = dataclasses.replace(head.sampling, redraws=0)
    copy = head.generate(vectors, sigma, Request(seed=3))[0][0]
    assert copy.provenance["near_copy"] is True
    assert copy.provenance["nearest_output"]["item"] == "tiny/3"


def test_of_several_candidates_the_one_that_fits_best_is_kept(tmp_path: Path) -> None:
    heads = tmp_path / "space" / "heads"
    write_latent_generator(heads, "image", options={"num_steps": 2})
    space = SpaceWithGenerators(tmp_path / "space")
    head: Any = create_generator(Modality.IMAGE, heads, space)
    seen: list[np.ndarray] = []

    def encode_image(pictures: list[np.ndarray]) -> np.ndarray:
        seen.extend(pictures)
        rows = np.zeros((len(pictures), space.embed_dim), np.float32)
        rows[:, 0], rows[:, 1] = [float(p.mean()) for p in pictures], 128.0  # brighter is nearer to axis 0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    space.encode_image = encode_image  # type: ignore[attr-defined]
    vector = np.eye(1, space.embed_dim, dtype=np.float32)
    (samples,) = head.generate(vector, np.zeros(1, np.float32), Request(2, seed=5, candidates=4))
    assert len(seen) == 8
    assert [sample.seed for sample in samples] == [5, 6]
    for number, sample in enumerate(samples):
        assert float(sample.content.mean()) == max(float(p.mean()) for p in seen[4 * number : 4 * number + 4])
        assert 0.0 < sample.score <= 1.0
    (alone,) = head.generate(vector, np.zeros(1, np.float32), Request(1, seed=6, candidates=4))
    # drawn beside fewer others, by which a pixel may be rounded otherwise
    np.testing.assert_allclose(alone[0].content.astype(int), samples[1].content.astype(int), atol=1)


def test_of_candidates_near_copies_come_last() -> None:
    copies = [Neighbour("a", "A", likeness) for likeness in (0.95, 0.2, 0.3, 0.99, 0.99, 0.95)]
    fits = torch.tensor([0.9, 0.1, 0.3, 0.2, 0.6, 0.5])
    assert best_of(fits, copies, 0.9, 3).tolist() == [2, 4]


def _looking(folder: Path) -> Path:
    """Write a generator whose training items all look like the name of the one after it."""
    heads = folder / "space" / "heads"
    own = write_latent_generator(heads, "image", options={"num_steps": 2, "start": 0.4, "pool": 8, "redraws": 0})
    looks = torch.from_numpy(np.stack([vector_of(text) for text in (*WORDS[1:], WORDS[0])]))
    (own / FILE).parent.mkdir()
    save_file(to_rows8({"looks": looks}), own / FILE)
    return heads


def test_several_candidates_begin_at_the_neighbours_that_show_best_what_is_wanted(tmp_path: Path) -> None:
    heads = _looking(tmp_path)
    space = SpaceWithGenerators(tmp_path / "space")
    space.encode_image = lambda pictures: np.eye(len(pictures), space.embed_dim, dtype=np.float32)  # type: ignore[attr-defined]
    head: Any = create_generator(Modality.IMAGE, heads, space)
    vectors, none = vector_of(WORDS[3])[None], np.zeros(1, np.float32)
    begun: list[tuple[torch.Tensor, SampleOptions]] = []

    class Watched(flow.FlowFamily):
        def sample(self, module: Any, condition: Condition, generators: Any, options: SampleOptions) -> torch.Tensor:
            begun.append((condition.context[:, 0], options))
            return super().sample(module, condition, generators, options)

    head.networks = {**head.networks, "flow": dataclasses.replace(head.networks["flow"], family=Watched())}
    first = head.generate(vectors, none, Request(seed=2))[0][0]
    assert first.provenance["context"][0] == "tiny/3"  # the one of the name
    head.generate(vectors, none, Request(seed=2, candidates=4))
    torch.testing.assert_close(begun[1][0][0], head.neighbours.latents[2])  # the one that looks like it
    assert [options.start for _, options in begun] == [0.4, 0.4, pytest.approx(0.55)]
    assert [len(context) for context, _ in begun] == [1, 2, 2]
    head.sampling = dataclasses.replace(head.sampling, looks=True)
    assert head.generate(vectors, none, Request(seed=2))[0][0].provenance["context"][0] == "tiny/2"


def test_looks_of_other_training_items_are_refused(tmp_path: Path) -> None:
    heads = _looking(tmp_path)
    assert load_neighbours(heads / "image").looks is not None
    save_file(to_rows8({"looks": torch.eye(3, SPACE_DIM)}), heads / "image" / FILE)
    with pytest.raises(WeightsError, match="make it anew"):
        load_neighbours(heads / "image")
    (heads / "image" / FILE).write_bytes(b"torn")
    with pytest.raises(WeightsError, match="damaged"):
        load_neighbours(heads / "image")


def test_candidates_are_drawn_together_in_no_more_steps_than_needed(tmp_path: Path) -> None:
    heads = tmp_path / "space" / "heads"
    write_latent_generator(heads, "image", options={"num_steps": 12, "start": 0.4})
    head: Any = create_generator(Modality.IMAGE, heads, SpaceWithGenerators(tmp_path / "space"))
    steps = [
        options_for(Request(candidates=each, num_steps=asked), head.networks["flow"], head.sampling).num_steps
        for each, asked in ((1, None), (4, None), (4, 9))
    ]
    assert steps == [12, 5, 9]
    assert [(rows.tolist(), start) for rows, start in batches(8, 4, 0.4, 0.5)] == [
        ([0, 1, 4, 5], 0.4),
        ([2, 3, 6, 7], pytest.approx(0.7)),
    ]
    assert [len(rows) for rows, _ in batches(40, 4, 0.0, 0.5)] == [16, 16, 8]


def test_guidance_may_be_for_some_times_only() -> None:
    """Four steps of a quarter: the two in the middle are guided, which takes a second pass each."""
    network = _Straight()
    condition = Condition(torch.tensor([[1.0]]), torch.zeros(1))
    made = flow.follow(network, condition, _generators(0), SampleOptions(4, 3.0, guided_times=(0.25, 0.75)))
    assert network.calls == 4 + 2
    torch.testing.assert_close(made, torch.ones(1, 1, 2, 2))  # the last step is the condition's own
