"""Stage 3: pooling heads from Whisper's frames into the frozen text backbone's space.

The loss is a softmax over the vectors of all training captions, not only the batch's: speech in nine languages is told
apart from ten thousand things it could have meant. It needs no text head, so the image stage may change without it.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.projections import AttentionPoolProjection, LinearProjection
from embedspace.encoders.shipped.speech import SpeechConfig, SpeechProjections, load_speech_projections
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.precision import bfloat16_autocast
from embedspace.train.ranks import recall_scalars
from training.align.recipe import Recipe
from training.align.tables import Row, caption_table, find_sequences, read_sequences

__all__ = ["SpeechClips", "train_speech"]

_EVALUATE_EVERY, _AT_ONCE = 500, 64
_RATE = 25  # frames a second of the speech front end
_BINS = 8
_BALANCE = 0.75


class SpeechClips:
    """Clips of speech with their captions' rows, drawn in batches of like length.

    Args:
        frames: (T_i, feature_dim) float16 sequences.
        labels: (N,) row of each clip's caption in the table of distinct captions.
        weights: (N,) relative chance of each clip.
        max_frames: Longer sequences are cut.
    """

    def __init__(
        self,
        frames: list[NDArray[np.float16]],
        labels: NDArray[np.int64],
        weights: NDArray[np.float64],
        max_frames: int,
    ) -> None:
        self.frames, self.labels, self.max_frames = frames, labels, max_frames
        lengths = np.array([min(len(f), max_frames) for f in frames])
        order = np.argsort(lengths, kind="stable")
        self.bins = [b for b in np.array_split(order, _BINS) if len(b)]
        self.share = [weights[b] / weights[b].sum() for b in self.bins]
        mass = np.array([weights[b].sum() for b in self.bins])
        self.mass = mass / mass.sum()

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return sequences (B, T, feature_dim), padding (B, T) and labels (B,)."""
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator).item()))
        k = random.choice(len(self.bins), p=self.mass)
        picked = random.choice(self.bins[k], batch_size, p=self.share[k])
        chosen = [self.frames[i][: self.max_frames] for i in picked]
        longest = max(map(len, chosen))
        batch = np.zeros((batch_size, longest, chosen[0].shape[1]), np.float32)
        padding = np.ones((batch_size, longest), bool)
        for row, pad, clip in zip(batch, padding, chosen, strict=True):
            row[: len(clip)] = clip
            pad[: len(clip)] = False
            for _ in range(2):  # SpecAugment's time masks (Park et al. 2019, section 2)
                width = int(random.integers(0, max(2, len(clip) // 8)))
                start = int(random.integers(0, len(clip)))
                row[start : start + width] = 0.0
        noise = (
            random.standard_normal((batch_size, 1, batch.shape[2]), dtype=np.float32) * 0.1
        )  # a voice, a room: constant
        return torch.from_numpy(batch * (1 + noise)), torch.from_numpy(padding), torch.from_numpy(self.labels[picked])


def _clips(recipe: Recipe, split: str) -> tuple[SpeechClips, Tensor] | None:
    """Read the clips of a split; returns them and the (M, text_dim) vectors of their distinct captions, if any."""
    wanted, captions = recipe.speech, caption_table(Path(recipe.features))
    frames: list[NDArray[np.float16]] = []
    rows: list[Row] = []
    weights: list[float] = []
    for name, weight in wanted.sources.items():
        read = read_sequences if split == "train" else find_sequences
        found = read(
            Path(recipe.features),
            Path(recipe.corpora),
            name,
            lambda r: (
                r.get("split", "train") == split and bool(r.get("captions")) and r["captions"][0] in captions.index
            ),
        )
        frames += found.frames
        rows += found.rows
        weights += [weight * share for share in _language_shares(found.rows, wanted.languages)]
    if not rows:
        return None
    if split == "train" and (unheard := wanted.languages.keys() - {row.get("language", "en") for row in rows}):
        raise ConfigError(f"[speech.languages] weighs {' '.join(sorted(unheard))}, which no clip of its sources speaks")
    texts = sorted({row["captions"][0] for row in rows})
    index = {t: k for k, t in enumerate(texts)}
    labels = np.array([index[row["captions"][0]] for row in rows], np.int64)
    table = torch.from_numpy(np.asarray(captions.features[captions.rows(texts)], np.float32))
    return SpeechClips(frames, labels, np.array(weights), int(wanted.max_seconds * _RATE)), table


def _language_shares(rows: list[Row], wanted: Mapping[str, float]) -> list[float]:
    """Return each clip's chance within its source; a power below one keeps a big language from drowning the others."""
    languages = [str(row.get("language", "en")) for row in rows]
    counts = Counter(languages)
    mass = {name: wanted.get(name, 1.0) * n**_BALANCE for name, n in counts.items()}
    total = sum(mass.values())
    return [mass[name] / total / counts[name] for name in languages]


class _Stage(nn.Module):
    """What stage 3 optimises."""

    def __init__(self, head: AttentionPoolProjection) -> None:
        super().__init__()
        self.head = head
        self.logit_scale = nn.Parameter(torch.tensor(3.0))


def train_speech(
    recipe: Recipe, text: LinearProjection, out: Path, minutes: float, resume: bool, tell: Callable[[FitProgress], None]
) -> SpeechProjections | None:
    """Train the pooling heads, first in the text backbone's space, then through the frozen text head.

    The second phase is short and needed: a predicted vector is near a caption's, not on it, and the text head, which
    only ever saw captions, spreads that difference out (measured: R@1 54 before the head, 19 behind it without).
    Arguments and result as `train_image`.
    """
    data = _read(recipe)
    heads = SpeechProjections(data.config)
    given = _given(recipe, data.config)
    deadline = time.monotonic() + minutes * 60
    for number in range(recipe.speech.members):
        before = given[number] if number < len(given) else None
        head = _train_member(recipe, number, data, before, text, out, deadline, resume, tell)
        if head is None:
            return None
        heads.members[number] = head
    return heads.eval()


@dataclass(frozen=True)
class _Data:
    """What all members of a run learn from.

    Attributes:
        clips: Training clips.
        table: (M, text_dim) vectors of their distinct captions.
        heard: The same of the validation split, if there is one.
        config: The encoder that is to be.
    """

    clips: SpeechClips
    table: Tensor
    heard: tuple[SpeechClips, Tensor] | None
    config: SpeechConfig


def _read(recipe: Recipe) -> _Data:
    wanted = recipe.speech
    found = _clips(recipe, "train")
    if found is None:
        raise ConfigError("no clip to train on: name [speech.sources] whose corpora and features are made")
    clips, table = found
    config = SpeechConfig(
        wanted.backbone,
        clips.frames[0].shape[1],
        table.shape[1],
        wanted.hidden_dim,
        wanted.num_layers,
        wanted.members,
        wanted.window_seconds,
    )
    return _Data(clips, table, _clips(recipe, "val"), config)


def _given(recipe: Recipe, config: SpeechConfig) -> list[nn.Module]:
    """Return the heads of the space that the run starts from, if it goes on with them."""
    if not recipe.speech.go_on:
        return []
    section = EmbeddingSpace.from_pretrained(recipe.start).config["sections"].get("speech", {})
    wanted = {**dataclasses.asdict(config), "members": section.get("members", 0)}
    return list(load_speech_projections(wanted, Path(recipe.start)).members)


def _train_member(
    recipe: Recipe,
    number: int,
    data: _Data,
    before: nn.Module | None,
    text: LinearProjection,
    out: Path,
    deadline: float,
    resume: bool,
    tell: Callable[[FitProgress], None],
) -> AttentionPoolProjection | None:
    """Train one head of the ensemble, from `before` if it is given; None if the monotonic clock reached `deadline`."""
    wanted, config = recipe.speech, data.config
    seed = recipe.seed * 1000 + number
    torch.manual_seed(seed)
    head = AttentionPoolProjection(
        config.feature_dim, config.text_dim, config.hidden_dim, config.num_layers, dropout=wanted.dropout
    )
    if before is not None:
        head.load_state_dict(before.state_dict())
    stage = _Stage(head)
    phases = (
        (f"speech {number}", None, wanted.steps, wanted.learning_rate),
        (f"speech {number} through the text head", text, wanted.through_steps, wanted.through_learning_rate),
    )
    for phase, (name, head_or_none, steps, rate) in enumerate(phases):
        left = max(0.0, (deadline - time.monotonic()) / 60)
        done = fit(
            stage,
            _loss(recipe, data.clips, data.table, head_or_none),
            FitConfig(steps, rate, wanted.weight_decay, 100, left, seed, evaluate_every=_EVALUATE_EVERY),
            stage=name,
            checkpoint=out / f"speech-{number}{'-through' * phase}.pt",
            resume=resume,
            recipe=recipe.digest("speech"),
            evaluate=_validation(*data.heard, head_or_none) if data.heard else None,
            callback=tell,
        )
        if not done:
            return None
    if before is not None and wanted.go_on_share < 1:
        _mix(head, before, wanted.go_on_share)
    return head


@torch.no_grad()
def _mix(head: nn.Module, before: nn.Module, share: float) -> None:
    """Draw a head's weights back to what they were, in place."""
    for now, then in zip(head.parameters(), before.parameters(), strict=True):
        now.copy_(then + share * (now - then))


def _validation(
    clips: SpeechClips, table: Tensor, text: LinearProjection | None
) -> Callable[[nn.Module], dict[str, float]]:
    """Recall of the validation clips among their captions, behind the text head where there is one."""
    order = np.argsort([len(frames) for frames in clips.frames])
    labels = torch.from_numpy(clips.labels[order])

    @torch.inference_mode()
    def evaluate(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, _Stage)
        corpus = table if text is None else text(table)
        rows = []
        for k in range(0, len(order), _AT_ONCE):
            chosen = [torch.from_numpy(clips.frames[i][: clips.max_frames]).float() for i in order[k : k + _AT_ONCE]]
            lengths = torch.tensor([len(frames) for frames in chosen])
            padding = torch.arange(int(lengths.max()))[None] >= lengths[:, None]
            z = module.head(nn.utils.rnn.pad_sequence(chosen, batch_first=True), padding)
            rows.append(z if text is None else text(z))
        return recall_scalars(torch.cat(rows) @ corpus.T, labels)

    return evaluate


def _loss(
    recipe: Recipe, clips: SpeechClips, table: Tensor, text: LinearProjection | None
) -> Callable[[nn.Module, torch.Generator], Tensor]:
    wanted = recipe.speech
    with torch.no_grad():
        corpus = table if text is None else text(table)

    def loss_of_step(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(module, _Stage)
        sequence, padding, labels = clips.draw(wanted.batch_size, generator)
        with bfloat16_autocast(wanted.bfloat16):
            z = module.head(sequence, padding if bool(padding.any()) else None)
        z = F.normalize(z.float(), dim=-1)
        target = table[labels]
        similarity = target @ table.T
        near = (similarity > _NEAR).scatter(1, labels[:, None], False)  # says nearly the same: no honest negative
        query = z if text is None else text(z)
        logits = (module.logit_scale.exp().clamp(max=60) * query @ corpus.T).masked_fill(near, float("-inf"))
        regression = (1 - (z * target).sum(dim=1)).mean()
        return F.cross_entropy(logits, labels) + wanted.regression * regression

    return loss_of_step


_NEAR = 0.85
