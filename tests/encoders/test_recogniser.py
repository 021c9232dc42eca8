from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from embedspace.encoders.quantize import from_rows, to_groups4
from embedspace.encoders.shipped.speech import SpeechConfig, SpeechEncoder, SpeechProjections, _merged, fuse, tidy
from embedspace.encoders.shipped.speech_features import SpeechFrontEnd
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.whisper_decoder import Hypothesis, WhisperDecoder, _beam_search, _State
from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.speech import voices
from embedspace.space import EmbeddingSpace
from tests.support.spaces import noise
from training.align.fusion import SHARES, choose_share
from training.align.recipe import load_recipe

SPELLINGS = [b" a", b" frog", b" b", b"ox", b" \xc3\xa9", b""]
CONFIG = {
    "feature_dim": 32,
    "layers": 2,
    "heads": 2,
    "positions": 24,
    "tokens": len(SPELLINGS),
    "token_bytes": sum(map(len, SPELLINGS)),
    "languages": ["en", "fr", "ru"],
}


def tiny(tmp_path: Path) -> WhisperDecoder:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = WhisperDecoder("whisper_base_decoder", **CONFIG)
    tensors = {name: torch.randn(wanted.shape) * 0.4 for name, wanted in model.state_dict().items() if wanted.ndim < 3}
    tensors["token_bytes"] = torch.frombuffer(bytearray(b"".join(SPELLINGS)), dtype=torch.uint8)
    tensors["token_ends"] = torch.tensor([len(s) for s in SPELLINGS], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    path = tmp_path / "decoder.safetensors"
    about = {"backbone": "whisper_base_decoder", "config": CONFIG, "source": "test", "licence": "MIT"}
    save_file(tensors, path, {"embedspace": json.dumps(about)})
    made = create_backbone("whisper_base_decoder", path)
    assert isinstance(made, WhisperDecoder)
    return made


def test_four_bits_come_back_within_their_groups_scale() -> None:
    torch.manual_seed(0)
    weight = torch.randn(128, 160) * torch.logspace(-2, 2, 128)[:, None]
    stored = to_groups4({"w": weight, "small": torch.randn(4, 4), "ids": torch.arange(9)})
    assert stored["w"].dtype == torch.uint8
    assert stored["w"].shape == (128, 80)
    back = from_rows(stored)
    assert set(back) == {"w", "small", "ids"}
    relative = (back["w"] - weight).norm(dim=1) / weight.norm(dim=1)
    assert relative.max() < 0.12  # uniform noise of half a step of a 32-entry group
    assert not from_rows(to_groups4({"w": torch.zeros(128, 160)}))["w"].any()
    again = to_groups4({"w": back["w"]})
    torch.testing.assert_close(from_rows(again)["w"], back["w"], atol=0, rtol=1e-6)
    odd = torch.randn(200, 100)  # no whole number of groups: 8 bits
    assert to_groups4({"odd": odd})["odd"].dtype == torch.int8
    torch.testing.assert_close(from_rows(to_groups4({"odd": odd}))["odd"], odd, atol=0.02, rtol=0)


def test_one_step_at_a_time_gives_what_a_whole_text_gives(tmp_path: Path) -> None:
    model, frames = tiny(tmp_path), torch.randn(20, 32)
    tokens = torch.tensor([[0, 1, 3, 2]])
    whole = model._run(model.tokens[tokens], _State(model._remember(frames), 1))
    state = _State(model._remember(frames), 1)
    for k in range(4):
        last = model._run(model.tokens[tokens[:, k : k + 1]], state)
    assert torch.allclose(last, whole, atol=1e-5)


def test_a_beam_as_wide_as_all_texts_finds_the_likeliest_one(tmp_path: Path) -> None:
    model, frames = tiny(tmp_path), torch.randn(20, 32)
    end, prompt = len(SPELLINGS) - 1, torch.tensor([[0, 4, 1, 3]])

    def score(text: list[int]) -> float:
        state = _State(model._remember(frames), 1)
        x, total = model._run(model.prompts[prompt], state), 0.0
        for token in [*text, end]:
            total += float((x @ model.tokens.T).log_softmax(dim=-1)[0, token])
            x = model._run(model.tokens[torch.tensor([[token]])], state)
        return total

    with torch.inference_mode():
        every = {(a,): score([a]) for a in range(end)}
        every |= {(a, b): score([a, b]) for a in range(end) for b in range(end)}
        found = _beam_search(model, model._remember(frames), prompt, end, 2)
    best = max(every, key=lambda t: every[t])
    text, log_probability = max(found, key=lambda f: f[1])
    assert tuple(text) == best
    assert log_probability == pytest.approx(every[best], abs=1e-4)


def test_longer_texts_are_not_the_worse_for_their_length(tmp_path: Path) -> None:
    """Of a text that is as likely word for word as a shorter one, all is said; without the penalty it ends early."""
    model, frames = tiny(tmp_path), torch.randn(20, 32)

    def lengths(penalty: float) -> list[int]:
        with torch.inference_mode():
            found = _beam_search(model, model._remember(frames), torch.tensor([[0, 4, 1, 3]]), 2, 12, penalty)
        return [len(tokens) for tokens, _ in found]

    assert max(lengths(0.0)) < 12
    assert min(lengths(3.0)) == 12
    found = model(frames, 2.0, length_penalty=1.0)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert any(h.score > h.log_probability for h in found)


def test_searches_side_by_side_do_not_change_each_other(tmp_path: Path) -> None:
    model, frames = tiny(tmp_path), torch.randn(20, 32)
    prompts = torch.tensor([[0, 4, 1, 3], [0, 5, 2, 3]])
    with torch.inference_mode():
        both = _beam_search(model, model._remember(frames), prompts, 3, 4)
        alone = [found for row in prompts for found in _beam_search(model, model._remember(frames), row[None], 3, 4)]
    # A search may run on while the other is not done; what it had found by then is among what it finds.
    for text, log_probability in alone:
        assert any(t == text and p == pytest.approx(log_probability, abs=1e-4) for t, p in both)


def test_spelling_joins_bytes_and_languages_are_probabilities(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    assert model.spell([0, 1, 2, 3, 4]) == "a frog box é"
    probabilities = model.detect(torch.randn(10, 32))
    assert probabilities.shape == (3,)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert model(torch.randn(10, 32), 1.0)


def test_a_decoder_of_another_shape_is_refused(tmp_path: Path) -> None:
    tiny(tmp_path)
    with pytest.raises(WeightsError, match="holds backbone 'whisper_base_decoder'"):
        create_backbone("whisper_base", tmp_path / "decoder.safetensors")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Frog. ", "frog"),
        ("Hornet! Hornet.", "hornet"),
        ("the cat the cat the cat", "the cat"),
        ("a mother-in-law's dog", "a mother-in-law's dog"),
        ("...", ""),
        ("New York, new Jersey", "new york new jersey"),
    ],
)
def test_tidy(text: str, expected: str) -> None:
    assert tidy(text) == expected


def test_texts_that_differ_in_marks_are_one() -> None:
    heard = ("Frog.", "frog", "fog")
    merged = _merged([*(Hypothesis(text, -2.0, -1.0) for text in heard), Hypothesis("?", 0.0, 0.0)])
    assert list(merged) == ["frog", "fog"]
    assert merged["frog"] == pytest.approx(2 / 3)
    assert _merged([]) == {}


@pytest.mark.skipif(not voices.available(), reason="nobody speaks here")
def test_all_of_what_is_said_is_written() -> None:
    """Words that begin with t have their letter, and a second sentence is not dropped."""
    waveform, voice = voices.speak("The train to the city leaves at ten. Then turn off the light.")
    space = EmbeddingSpace.from_pretrained()
    recording = space.decode((waveform, voices.SAMPLE_RATE), "audio", as_modality="speech")
    ((segment,),) = space.encode_decoded([recording])
    heard = segment.text.split()
    assert heard[:5] == ["the", "train", "to", "the", "city"], (voice, segment.text)
    assert heard[-2:] == ["the", "light"], (voice, segment.text)


def test_the_share_that_ranks_best_is_chosen() -> None:
    captions = torch.eye(4)
    targets = torch.arange(4)
    wrong = captions.roll(1, dims=0)
    assert choose_share(wrong, captions, captions, targets)[0] > 0.5
    share, ranks = choose_share(captions, wrong, captions, targets)
    assert share < 0.5
    assert len(ranks) == len(SHARES)
    assert torch.allclose(fuse(captions, wrong, 0.0), captions)


def test_a_short_clip_lies_in_silence_and_its_own_frames_are_kept() -> None:
    front = SpeechFrontEnd()
    prepared = front.preprocess(noise(1.0))
    assert prepared.frames.shape == (80, 800)
    assert prepared.own == 148  # a second and its tail, in whole groups of four
    (heard,) = front([prepared])
    assert heard.frames.shape == (400, 512)
    assert heard.sequence.shape == (37, 512)
    tiny_clip = front.preprocess(np.full(1, 0.5, np.float32))
    assert front([tiny_clip])[0].sequence.shape[0] >= 1


@pytest.mark.slow
def test_what_is_said_is_recognised_and_finds_its_words() -> None:
    """In the shipped space; the voice is synthetic, eval/results has the figures of human ones."""
    space = EmbeddingSpace.from_pretrained()
    decoded = space.decode(Path(__file__).parents[1] / "data" / "penguin.ogg", "audio", as_modality="speech")
    ((segment,),) = space.encode_decoded([decoded])
    assert segment.text == "a penguin"
    words = space.encode_text(["a violin", "a penguin", "a bus"])
    assert (words @ segment.vector).argmax() == 1


def test_the_shipped_recogniser_answers_noise_without_failing() -> None:
    config = SpeechConfig("whisper_base", 512, 384, 16, 1, 1, decoder="whisper_base_decoder", recognised_share=0.5)
    from embedspace.encoders.projections import LinearProjection

    torch.manual_seed(0)
    encoder = SpeechEncoder(config, SpeechProjections(config).eval(), LinearProjection(384, 16, 8).eval(), 16).eval()
    a, b = encoder.prepare(noise(0.3)), encoder.prepare(noise(2.0, seed=1))
    together, _ = encoder.encode_and_transcribe([a, b])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(encoder.encode([b]), together[1:], atol=1e-5)


def test_a_locked_text_head_needs_a_space_to_come_from(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[text]\nlocked = true\n")
    with pytest.raises(ConfigError, match="set start"):
        load_recipe(path)
