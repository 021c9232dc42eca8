"""The decoder of Whisper: what a clip says, in English whatever its language, as several hypotheses.

The vocabulary is cut to the pieces that English is written with. Hypotheses come from a beam search run once for each
of the likeliest languages and once for English, so that a wrong guess of the language is not the end of it.

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, 2022 (https://arxiv.org/abs/2212.04356).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, register_backbone
from embedspace.encoders.towers.layer import TransformerLayer

__all__ = ["Hypothesis", "WhisperDecoder"]

_START, _TRANSCRIBE, _TRANSLATE, _NO_TIMES, _LANGUAGES = 0, 1, 2, 3, 4
"""Rows of the prompt table: four commands, then the languages."""
_TOKENS_A_SECOND = 6
"""Nobody speaks faster; a recogniser that goes on for longer repeats itself."""
_FEWEST_TOKENS = 8


Memory = list[tuple[Tensor, Tensor]]
"""Each layer's keys and values of a clip, (1, heads, T, C / heads)."""


class Hypothesis(NamedTuple):
    """Something that a clip may say.

    Attributes:
        text: In English, as the recogniser spells it.
        log_probability: Log probability of the whole text, its end included.
        score: The log probability over what grows with the text's length; what hypotheses are compared by.
    """

    text: str
    log_probability: float
    score: float


class WhisperDecoder(Backbone):
    """Whisper's decoder with an English vocabulary.

    Args:
        name: Name of the backbone.
        feature_dim: Width, the encoder's.
        layers: Transformer layers.
        heads: Attention heads of each.
        positions: Most tokens of a text, its prompt of four included.
        tokens: Rows of the vocabulary; the last one ends a text.
        token_bytes: Bytes of all the others' spellings together.
        languages: Codes of the languages, in the order of the prompt table.
    """

    modality = "speech"
    token_bytes: Tensor
    token_ends: Tensor

    def __init__(
        self,
        name: str,
        *,
        feature_dim: int,
        layers: int,
        heads: int,
        positions: int,
        tokens: int,
        token_bytes: int,
        languages: list[str],
    ) -> None:
        super().__init__(name, feature_dim)
        self.languages = list(languages)
        self.tokens = nn.Parameter(torch.empty(tokens, feature_dim))
        self.prompts = nn.Parameter(torch.empty(_LANGUAGES + len(self.languages), feature_dim))
        self.positions = nn.Parameter(torch.empty(positions, feature_dim))
        self.layers = nn.ModuleList([_Layer(feature_dim, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(feature_dim)
        self.register_buffer("token_bytes", torch.empty(token_bytes, dtype=torch.uint8))
        self.register_buffer("token_ends", torch.empty(tokens, dtype=torch.int32))

    def spell(self, tokens: list[int]) -> str:
        """Return the text of some tokens, the end left out."""
        spans = [(int(self.token_ends[t - 1]) if t else 0, int(self.token_ends[t])) for t in tokens]
        data = b"".join(bytes(self.token_bytes[start:end].tolist()) for start, end in spans)
        return data.decode("utf-8", errors="replace").strip()

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Tensor:
        """Return the probability of each language, (languages,), given the encoder's output (T, feature_dim)."""
        return self._detect(self._remember(frames))

    def _remember(self, frames: Tensor) -> Memory:
        return [layer.remember(frames[None]) for layer in self.layers]  # type: ignore[operator]

    def _detect(self, memory: Memory) -> Tensor:
        state = _State(memory, 1)
        return (self._run(self.prompts[_START][None, None], state)[0] @ self.prompts[_LANGUAGES:].T).softmax(dim=-1)

    @torch.inference_mode()
    def forward(
        self, frames: Tensor, seconds: float, *, num_beams: int = 4, num_languages: int = 2, length_penalty: float = 1.0
    ) -> list[Hypothesis]:
        """Say what one clip may say.

        Args:
            frames: (T, feature_dim), the last output of Whisper's encoder. Of short clips padded with less than about
                6 s of silence it makes endless repetitions.
            seconds: Length of the clip without that silence, which bounds the length of its text.
            num_beams: Hypotheses kept in each language's search.
            num_languages: The likeliest ones are searched, and English.
            length_penalty: Exponent of the length that log probabilities are divided by; without it (0) a text of
                several sentences ends after its first, because each token costs something.

        Returns:
            At most `num_beams` hypotheses of each search, the best first; a text may occur more than once.
        """
        english, memory = self.languages.index("en"), self._remember(frames)
        likely = self._detect(memory).topk(min(num_languages, len(self.languages))).indices.tolist()
        spoken = [*likely, *({english} - set(likely))]
        commands = [[_START, _LANGUAGES + k, _TRANSCRIBE if k == english else _TRANSLATE, _NO_TIMES] for k in spoken]
        most = max(_FEWEST_TOKENS, int(seconds * _TOKENS_A_SECOND))
        most = min(most, len(self.positions) - len(commands[0]))
        prompts = torch.tensor(commands, device=frames.device)
        found = _beam_search(self, memory, prompts, num_beams, most, length_penalty)
        made = [Hypothesis(self.spell(tokens), p, p / _length(len(tokens), length_penalty)) for tokens, p in found]
        return sorted(made, key=lambda h: -h.score)

    def _run(self, x: Tensor, state: _State) -> Tensor:
        """Return the last position's normalised output (B, C) for embedded tokens (B, N, C), and move the state on."""
        x = x + self.positions[state.length : state.length + x.shape[1]]
        for layer, memory, past in zip(self.layers, state.memory, state.past, strict=True):
            x = layer(x, memory, past)
        state.length += x.shape[1]
        last: Tensor = self.norm(x[:, -1])
        return last


class _State:
    """Keys and values of what was heard and of what was said so far.

    Attributes:
        memory: For each layer, keys and values of the clip, (1, heads, T, C / heads).
        past: For each layer, keys and values of the tokens, (B, heads, length, C / heads); a list, changed in place.
        length: Tokens so far.
    """

    def __init__(self, memory: Memory, batch: int) -> None:
        self.memory = memory
        keys = memory[0][0]
        empty = keys.new_empty(batch, keys.shape[1], 0, keys.shape[3])
        self.past: list[list[Tensor]] = [[empty, empty] for _ in memory]
        self.length = 0

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch."""
        for past in self.past:
            past[:] = [part[rows] for part in past]


class _Layer(TransformerLayer):
    """Pre-norm decoder layer: attention to the text so far, attention to the clip, two linear maps."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)

    def remember(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of the clip, each (1, heads, T, C / heads)."""
        k, v = self.split(self.cross_kv(frames), 2)
        return k, v

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], past: list[Tensor]) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.split(self.qkv(self.attention_norm(x)), 3)
        past[:] = [torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)]
        # Several tokens at once are the prompt, which nothing comes before.
        mixed = functional.scaled_dot_product_attention(q, past[0], past[1], is_causal=count > 1)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        # All rows hear the same clip: as positions of one row they share its keys and values without a copy.
        (q,) = self.split(self.cross_q(self.cross_norm(x)).view(1, batch * count, width), 1)
        mixed = functional.scaled_dot_product_attention(q, *memory)
        x = x + self.cross_out(mixed.transpose(1, 2).reshape(batch, count, width))
        return x + self.feed_forward(self.mlp_norm(x))


def _beam_search(
    decoder: WhisperDecoder, memory: Memory, commands: Tensor, num_beams: int, most: int, length_penalty: float = 0.0
) -> list[tuple[list[int], float]]:
    """Search from each of P prompts side by side; returns their finished texts with the sums of log probabilities.

    Args:
        decoder: Gives the probabilities.
        memory: Keys and values of the clip.
        commands: (P, 4) rows of the prompt table.
        num_beams: Texts kept in each search, and finished texts returned of each.
        most: Tokens of the longest text.
        length_penalty: Exponent of the length that sums are divided by to compare them.
    """
    searches, end = len(commands), len(decoder.tokens) - 1
    state = _State(memory, searches)
    scores = _log_probabilities(decoder, decoder._run(decoder.prompts[commands], state))
    scores[:, end] = -torch.inf  # an empty text is nothing to go on
    # From here on (P, K): K live texts of each search.
    live, tokens = scores.topk(num_beams, dim=1)
    texts = [[[t] for t in row] for row in tokens.tolist()]
    state.select(torch.arange(searches, device=tokens.device).repeat_interleave(num_beams))
    finished: list[list[tuple[list[int], float]]] = [[] for _ in range(searches)]
    for _ in range(most):
        x = decoder.tokens[tokens.flatten()][:, None]
        steps = _log_probabilities(decoder, decoder._run(x, state)).view(searches, num_beams, -1)
        total = live[..., None] + steps  # (P, K, tokens)
        for search, row in enumerate(total[..., end].tolist()):
            finished[search] += zip(texts[search], row, strict=True)
        best = [sorted(found, key=lambda f: -_score(f, length_penalty))[:num_beams] for found in finished]
        total[..., end] = -torch.inf
        live, flat = total.flatten(1).topk(num_beams, dim=1)
        hopes = [top / _length(len(texts[0][0]) + 1, length_penalty) for top in live[:, 0].tolist()]
        if all(_score(found[-1], length_penalty) >= hope for found, hope in zip(best, hopes, strict=True)):
            break
        parents, tokens = flat // total.shape[2], flat % total.shape[2]
        texts = [
            [[*texts[search][p], t] for p, t in zip(*pair, strict=True)]
            for search, pair in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True))
        ]
        state.select((parents + num_beams * torch.arange(searches, device=parents.device)[:, None]).flatten())
    return [found for each in best for found in each]


def _length(tokens: int, exponent: float) -> float:
    """Return what a log probability is divided by: 1 for one token (Wu et al. 2016, equation 14)."""
    return float(((5 + tokens) / 6) ** exponent)


def _score(found: tuple[list[int], float], exponent: float) -> float:
    tokens, log_probability = found
    return log_probability / _length(len(tokens), exponent)


def _log_probabilities(decoder: WhisperDecoder, x: Tensor) -> Tensor:
    return (x @ decoder.tokens.T).log_softmax(dim=-1)


@register_backbone("whisper_base_decoder")
def _create(name: str, weights: Path | None) -> WhisperDecoder:
    return WhisperDecoder.read(name, weights)
