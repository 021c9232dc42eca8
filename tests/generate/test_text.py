from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.errors import InputError, OutsideError, UnknownModalityError, WeightsError
from embedspace.generate import Request, create_generator, generate, interpolate
from embedspace.generate.captions.decoder import (
    BEGIN,
    END,
    PAD,
    CaptionDecoder,
    DecoderConfig,
    beam_search,
    sample,
)
from embedspace.generate.captions.generator import without_open_bracket
from embedspace.generate.conditioning import Condition
from embedspace.modality import Modality
from embedspace.train.generators.captions import caption_loss, encode_captions, make_vocabulary, places_of
from tests.support.cli_space import DIM, vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_text_generator, write_vocabulary


@pytest.fixture
def space(tmp_path: Path) -> SpaceWithGenerators:
    write_text_generator(tmp_path / "heads")
    write_vocabulary(tmp_path / "heads")
    return SpaceWithGenerators(tmp_path)


def _decoder(**changes: int) -> CaptionDecoder:
    torch.manual_seed(0)
    size = {"embed_dim": 8, "vocabulary": 9, "width": 16, "layers": 2, "heads": 2, "prefix": 2, "max_pieces": 4}
    network = CaptionDecoder(DecoderConfig(**{**size, **changes}, dropout=0.0)).eval()
    network.places.copy_(torch.nn.functional.normalize(torch.randn(network.places.shape), dim=1))
    network.places[:3] = 0.0  # marks lie nowhere
    return network


def _condition(rows: int = 1) -> Condition:
    generator = torch.Generator().manual_seed(5)
    return Condition(torch.nn.functional.normalize(torch.randn(rows, 8, generator=generator), dim=1), torch.zeros(rows))


def test_decoder_steps_give_what_the_whole_gives() -> None:
    network, condition = _decoder(), _condition(2)
    ids = torch.tensor([[BEGIN, 5, 6], [BEGIN, 7, 3]])
    with torch.inference_mode():
        whole = network(ids, condition)
        caches, first = network.start(condition)
        torch.testing.assert_close(first, whole[:, 0], atol=1e-5, rtol=1e-4)
        near = network.nearness(condition).scatter(1, ids[:, 1:2], 0.0)
        torch.testing.assert_close(network.step(ids[:, 1], 1, caches, near), whole[:, 1], atol=1e-5, rtol=1e-4)
        near = near.scatter(1, ids[:, 2:3], 0.0)
        torch.testing.assert_close(network.step(ids[:, 2], 2, caches, near), whole[:, 2], atol=1e-5, rtol=1e-4)


def test_beam_search_finds_the_likeliest_caption_of_all() -> None:
    network, condition = _decoder(max_pieces=2), _condition()
    best, best_score = [], -math.inf
    with torch.inference_mode():
        for first in range(3, 9):
            for last in range(3, 9):
                given = torch.tensor([[BEGIN, first]])
                logits = network(given, condition)[0]
                logits[:, [PAD, BEGIN]] = -math.inf
                logits[1, first] = -math.inf  # nothing is said twice
                chances = logits.log_softmax(dim=1)
                for path, value in (
                    ([first], float(chances[0, first] + chances[1, END])),
                    ([first, last], float(chances[0, first] + chances[1, last])),
                ):
                    score = value / (len(path) + 1) ** 0.6
                    if score > best_score:
                        best, best_score = path, score
    found = beam_search(network, condition, num_steps=2, guidance_scale=1.0, beams=64)
    assert found[0][0] == best
    assert found[0][1] == pytest.approx(best_score, abs=1e-4)


def test_guidance_of_nothing_is_the_unconditional_decoder() -> None:
    network, condition = _decoder(), _condition()
    zero = beam_search(network, condition, num_steps=4, guidance_scale=0.0, beams=4)
    plain = beam_search(network, condition.dropped(), num_steps=4, guidance_scale=1.0, beams=4)
    assert [path for path, _ in zero] == [path for path, _ in plain]


def test_sample_depends_on_its_own_seed_only() -> None:
    network, condition = _decoder(), _condition(3)
    same = Condition(condition.vector[:1].expand(3, -1), condition.sigma)

    def draw(seeds: list[int]) -> torch.Tensor:
        given = Condition(same.vector[: len(seeds)], same.sigma[: len(seeds)])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return sample(network, given, num_steps=4, guidance_scale=1.0, generator=generators, temperature=2.0)

    assert draw([1, 2, 3])[2].tolist() == draw([3])[0].tolist()
    assert len({tuple(row) for row in draw([1, 2, 3]).tolist()}) > 1


def test_places_of_pieces_are_those_of_the_words_they_are() -> None:
    tokenizer = make_vocabulary([*WORDS, "dog", "dog dog"], 64)
    texts = ["dog", "a dog", "cat"]
    vectors = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    places = places_of(tokenizer, texts, vectors)
    ids = tokenizer.encode("dog").ids
    assert len(ids) == 1
    torch.testing.assert_close(places[ids[0]], vectors[0])
    assert not places[:3].any()  # the marks lie nowhere


def test_caption_loss_overfits_a_few_captions() -> None:
    tokenizer = make_vocabulary(list(WORDS), 64)
    ids = encode_captions(tokenizer, list(WORDS), 8)
    assert ids[:, 0].tolist() == [BEGIN] * len(WORDS)
    assert [tokenizer.decode([i for i in row if i > END]) for row in ids.tolist()] == list(WORDS)
    network = _decoder(embed_dim=DIM, vocabulary=tokenizer.get_vocab_size(), max_pieces=8, width=32)
    condition = Condition(torch.from_numpy(np.stack([vector_of(text) for text in WORDS])), torch.zeros(len(WORDS)))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        loss = caption_loss(network, ids, condition)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    one = Condition(condition.vector[4:5], condition.sigma[:1])
    best = beam_search(network.eval(), one, num_steps=8, guidance_scale=1.0, beams=3)[0][0]
    assert tokenizer.decode(best) == WORDS[4]


def test_generate_ranks_captions_by_the_space(space: SpaceWithGenerators) -> None:
    (samples,) = generate(space, vector_of("a dog"), to="text", request=Request(2, seed=3), neighbours=1)
    assert len(samples) == 2
    assert samples[0].content == samples[0].text
    cosine = float(vector_of(samples[0].text) @ vector_of("a dog"))
    assert cosine - 0.5 < samples[0].score <= cosine + 1e-5  # less by how unlikely the decoder holds it
    shown = [*(sample.score for sample in samples), *(score for _, score in samples[0].alternatives)]
    assert shown == sorted(shown, reverse=True)
    assert samples[0].alternatives and not samples[1].alternatives
    assert samples[0].neighbours[0].caption == "a dog"
    about = samples[0].provenance
    assert (about["seed"], about["head"], about["source_modality"]) == (3, "text", "text")
    assert len(about["weights"]) == 64
    again = generate(space, vector_of("a dog"), to="text", request=Request(2, seed=3))[0]
    assert [s.text for s in again] == [s.text for s in samples]


def test_generate_says_when_a_vector_is_outside(space: SpaceWithGenerators) -> None:
    with pytest.raises(OutsideError, match="outside what the generator knows"):
        generate(space, vector_of("zzz"), to="text")
    with pytest.raises(OutsideError, match="vector 2: outside"):
        generate(space, np.stack([vector_of("a dog"), vector_of("zzz")]), to="text")
    forced = generate(space, vector_of("zzz"), to="text", force=True)[0][0]
    assert forced.provenance["outside"] is True


def test_generate_refuses_what_is_no_vector(space: SpaceWithGenerators) -> None:
    with pytest.raises(InputError, match="must be"):
        generate(space, np.zeros((2, 3), np.float32), to="text")
    with pytest.raises(InputError, match="zero"):
        generate(space, np.zeros(DIM, np.float32), to="text")
    with pytest.raises(UnknownModalityError, match="smell"):
        generate(space, vector_of("a dog"), to="smell")
    with pytest.raises(WeightsError, match=r"no generator of image.*it makes: text"):
        generate(space, vector_of("a dog"), to="image")
    with pytest.raises(InputError, match="family 'flow'"):
        generate(space, vector_of("a dog"), to="text", request=Request(family="flow"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_samples": 0},
        {"num_samples": 5000},
        {"num_steps": 0},
        {"guidance_scale": -1.0},
        {"guidance_scale": math.nan},
        {"size": 8},
        {"seconds": 0.0},
        {"seconds": math.inf},
    ],
)
def test_request_refuses_the_impossible(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"must be|make 1 to|side is"):
        Request(**wrong)  # type: ignore[arg-type]


def test_generators_belong_to_a_text_projection(space: SpaceWithGenerators) -> None:
    write_text_generator(space.folder / "heads", text_head="other")
    with pytest.raises(WeightsError, match="another text projection"):
        create_generator(Modality.TEXT, space.folder / "heads", space)


def test_generators_load_strictly(space: SpaceWithGenerators) -> None:
    folder = space.folder / "heads"
    own = write_text_generator(folder)
    head = create_generator(Modality.TEXT, folder, space)
    config = json.loads((own / "config.json").read_text())
    config["decoder"]["width"] = 32
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="do not fit"):
        create_generator(Modality.TEXT, folder, space)
    write_text_generator(folder, sigma={"text": 0.5})
    assert create_generator(Modality.TEXT, folder, space).digest != head.digest


def test_interpolate_goes_along_the_great_circle() -> None:
    space = SpaceWithGenerators(Path("unused"))
    a, b = vector_of("a dog"), vector_of("a cat")
    rows = interpolate((a, "text"), (b, "text"), 5, space)
    np.testing.assert_allclose(rows[[0, 4]], [a, b], atol=1e-5)
    steps = np.arccos(np.clip((rows[1:] * rows[:-1]).sum(axis=1), -1, 1))
    np.testing.assert_allclose(steps, steps[0], atol=1e-4)
    with pytest.raises(InputError, match="at least 2"):
        interpolate((a, "text"), (b, "text"), 1, space)


def test_request_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Request().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("a cat (egyptian", "a cat"),
        ("a cat (egyptian)", "a cat (egyptian)"),
        ("a cat (a (b)", "a cat"),
        ("a) cat", "a) cat"),
        ("(", ""),
    ],
)
def test_a_caption_that_was_cut_in_brackets_ends_before_them(cut: str, expected: str) -> None:
    assert without_open_bracket(cut) == expected
