"""Stage 1: the text head and the image heads, trained together; the text head is frozen from then on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.projections import LinearProjection, MLPProjection, class_mixture
from embedspace.encoders.shipped.image import ImageConfig, ImageProjections, load_image_projections
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.backbone import WEIGHTS
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.batches import CaptionTable, PairBatches, PairSource
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.losses import info_nce, mixup_pairs, siglip, soft_targets
from embedspace.train.ranks import recall_scalars
from training.align.recipe import Recipe
from training.align.tables import body_of, caption_table, manifest_rows, pair_source, read_features

__all__ = ["class_vectors", "image_sources", "train_image"]

_CLASSES = 1000  # of ImageNet: the logits that end each row of features
Tell = Callable[[FitProgress], None]


def class_vectors(captions: CaptionTable, hypernyms: float) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
    """Return the (1000, text_dim) unit vectors of ImageNet's classes, and each class's names as caption rows."""
    table = np.asarray(captions.features, np.float32)
    vectors, names = [], []
    for row in json.loads((WEIGHTS.parent / "imagenet_classes.json").read_text("utf-8")):
        vector = table[captions.index[row["name"]]].copy()
        above = [h for h in row["hypernyms"][:3] if h in captions.index]
        if hypernyms and above:
            vector += hypernyms * table[captions.rows(above)].mean(axis=0)
        vectors.append(vector / np.linalg.norm(vector))
        names.append(captions.rows([n for n in [row["name"], *row["synonyms"][:2]] if n in captions.index]))
    return np.stack(vectors), names


def image_sources(recipe: Recipe, captions: CaptionTable, split: str) -> list[PairSource]:
    """Return the image sources of a recipe, their features and logits side by side as one row."""
    wanted = recipe.image
    found = []
    for name, weight in wanted.sources.items():
        tail = Path(wanted.tail) if wanted.tail else None
        table = read_features(Path(recipe.features), "image", name, wanted.views, tail)
        joined = type(table)(table.index, np.concatenate([table.features, table.logits], axis=1), table.logits)
        rows = [
            r
            for r in manifest_rows(Path(recipe.corpora), name, "image")
            if r.get("split", "train") == split and not (wanted.drop and r.get("extra", {}).get(wanted.drop))
        ]
        found.append(pair_source(name, rows, joined, captions, weight=weight, keywords=wanted.keywords))
    return found


def _class_rows(front_dim: int, backbones: tuple[str, ...], mean: Tensor, scale: Tensor) -> Tensor:
    """Turn the classifiers' weight rows into features: a class's row points where its images' features lie."""
    rows = mean.repeat(_CLASSES, 1)
    start = 0
    for name in backbones:
        backbone = create_backbone(name)
        assert isinstance(backbone, EfficientNetLite)
        weight = backbone.classifier.weight.detach()
        span = slice(start, start + weight.shape[1])
        rows[:, span] = mean[span] + (weight - weight.mean(dim=0)) / weight.std(dim=0) / scale[span]
        start += weight.shape[1] + sum(backbone.middle_dims)
    if start > front_dim:
        raise ConfigError(
            f"features are {front_dim} wide, the backbones {backbones} need {start}: make the features again"
        )
    return rows


class _Stage(nn.Module):
    """What stage 1 optimises."""

    def __init__(self, text: LinearProjection, heads: ImageProjections) -> None:
        super().__init__()
        self.text, self.heads = text, heads
        self.logit_scale = nn.Parameter(torch.tensor(2.66))  # log(1 / 0.07)
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))


@dataclass(frozen=True)
class _Shared:
    """What the members of the ensemble share.

    Attributes:
        captions: Vectors of the captions.
        batches: Batches of the training split.
        mean: (feature_dim,) of the plain views.
        scale: (feature_dim,) inverse deviation.
        classes: (1000, text_dim) text features of the class names.
        names: Each class's names as caption rows.
        class_rows: (1000, feature_dim) features of the classifiers' weights.
    """

    captions: CaptionTable
    batches: PairBatches
    mean: Tensor
    scale: Tensor
    classes: Tensor
    names: list[NDArray[np.int64]]
    class_rows: Tensor


def _shared(recipe: Recipe) -> _Shared:
    wanted, captions = recipe.image, caption_table(Path(recipe.features))
    sources = image_sources(recipe, captions, "train")
    batches = PairBatches(sources, captions, wanted.batch_size - wanted.class_rows, wanted.first_caption)
    sample = torch.from_numpy(np.concatenate([np.asarray(s.features[s.views[:, 0]], np.float32) for s in sources]))
    width = sample.shape[1] - _CLASSES
    mean, scale = sample[:, :width].mean(dim=0), 1 / (sample[:, :width].std(dim=0) + 1e-3)
    vectors, names = class_vectors(captions, wanted.hypernyms)
    rows = _class_rows(width, wanted.backbones, mean, scale)
    return _Shared(captions, batches, mean, scale, torch.from_numpy(vectors), names, rows)


def train_image(
    recipe: Recipe, text: LinearProjection, out: Path, minutes: float, resume: bool, tell: Tell
) -> ImageProjections | None:
    """Train text head and image heads in place.

    Args:
        recipe: The run.
        text: The text head; trained with the first member, frozen for the others.
        out: Folder of the checkpoints.
        minutes: Time budget of all members.
        resume: Go on from the checkpoints.
        tell: Told of progress.

    Returns:
        The heads, or None if the time ran out.
    """
    shared = _shared(recipe)
    heads = ImageProjections(_config(recipe, len(shared.mean)))
    deadline = time.monotonic() + minutes * 60
    kept = _kept(recipe)
    for number in range(recipe.image.members):
        if number < len(kept):
            heads.members[number].load_state_dict(kept[number].state_dict())
            continue
        stage = _member_stage(recipe, shared, text, heads, number)
        done = fit(
            stage,
            _loss(recipe, shared, number),
            _fit_config(recipe, deadline, number),
            stage=f"image {number}",
            checkpoint=out / f"image-{number}.pt",
            resume=resume,
            recipe=recipe.digest("image"),
            evaluate=_validation(recipe, shared.captions, number),
            callback=tell,
        )
        if not done:
            return None
    text.requires_grad_(False)
    with torch.inference_mode():
        heads.classes.copy_(text(shared.classes))
    return heads.eval()


def _kept(recipe: Recipe) -> list[nn.Module]:
    """Return the heads of the space that the run starts from which stay as they are.

    Raises:
        ConfigError: If it has too few.
    """
    wanted = recipe.image.keep_members
    if not wanted:
        return []
    section = EmbeddingSpace.from_pretrained(recipe.start).config["sections"].get("image", {})
    if section.get("members", 0) < wanted:
        raise ConfigError(f"{recipe.start}: has {section.get('members', 0)} image heads, keep_members is {wanted}")
    return list(load_image_projections(section, Path(recipe.start)).members)[:wanted]


def _config(recipe: Recipe, width: int) -> ImageConfig:
    wanted = recipe.image
    return ImageConfig(
        wanted.backbones,
        width,
        recipe.embed_dim,
        wanted.hidden_dim,
        wanted.members,
        temperature=wanted.temperature,
        top_k=wanted.top_k,
    )


def _fit_config(recipe: Recipe, deadline: float, number: int) -> FitConfig:
    wanted, left = recipe.image, max(0.0, (deadline - time.monotonic()) / 60)
    seed = recipe.seed * 1000 + number
    return FitConfig(wanted.steps, wanted.learning_rate, wanted.weight_decay, 100, left, seed)


def _member_stage(
    recipe: Recipe, shared: _Shared, text: LinearProjection, heads: ImageProjections, number: int
) -> _Stage:
    """Start a member anew by its seed and let only what it trains have gradients."""
    wanted = recipe.image
    torch.manual_seed(recipe.seed * 1000 + number)
    member = heads.members[number]
    assert isinstance(member, MLPProjection)
    fresh = MLPProjection(len(shared.mean), recipe.embed_dim, wanted.hidden_dim, wanted.dropout, True)
    member.load_state_dict(fresh.state_dict())
    member.dropout.p = wanted.dropout
    member.mean.copy_(shared.mean)
    member.scale.copy_(shared.scale)
    stage = _Stage(text, heads)
    stage.requires_grad_(False)
    member.requires_grad_(True)
    stage.logit_scale.requires_grad_(True)
    stage.logit_bias.requires_grad_(wanted.loss == "siglip")
    text.requires_grad_(number == 0 and not recipe.text.locked)
    return stage


def _loss(recipe: Recipe, shared: _Shared, number: int) -> Callable[[nn.Module, torch.Generator], Tensor]:
    wanted = recipe.image
    table = torch.from_numpy(np.asarray(shared.captions.features, np.float32))
    teaches_text = number == 0 and recipe.text.pair_share and not recipe.text.locked
    pairs = _text_pairs(recipe, shared.captions) if teaches_text else None

    def loss_of_step(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(module, _Stage)
        module.text.train(number == 0 and not recipe.text.locked)
        features, prior, text = _draw(recipe, shared, module, table, generator)
        targets, ignored = soft_targets(
            text @ text.T, positive_above=wanted.positive_above, ignore_above=wanted.ignore_above
        )
        if wanted.mixup:
            both, text = mixup_pairs(torch.cat([features, prior], dim=1), text, wanted.mixup, generator)
            features, prior = both[:, : features.shape[1]], F.normalize(both[:, features.shape[1] :], dim=1)
            text = F.normalize(text, dim=1)
        y = module.text(text)
        z = module.heads.members[number](features, prior)
        scale = module.logit_scale.exp().clamp(max=100)
        if wanted.loss == "siglip":
            loss = siglip(z, y, scale, module.logit_bias, targets > 0, ignored)
        else:
            loss = info_nce(z, y, scale, targets, ignored)
        if pairs is not None:
            a, b = pairs.draw_text(generator)
            loss = loss + recipe.text.pair_share * info_nce(module.text(a), module.text(b), scale)
        return loss

    return loss_of_step


def _draw(
    recipe: Recipe, shared: _Shared, stage: _Stage, table: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, priors and text features of a batch: pictures, and some class rows with a name of each."""
    wanted, names = recipe.image, shared.names
    joined, text = shared.batches.draw(generator)
    with torch.no_grad():
        classes = stage.text(shared.classes)
    features, logits = joined[:, :-_CLASSES], joined[:, -_CLASSES:]
    prior = class_mixture(logits, classes, wanted.temperature, wanted.top_k)
    if wanted.class_rows:
        picked = torch.randint(_CLASSES, (wanted.class_rows,), generator=generator)
        name = [names[k][int(torch.randint(len(names[k]), (1,), generator=generator))] for k in picked.tolist()]
        features, prior = torch.cat([features, shared.class_rows[picked]]), torch.cat([prior, classes[picked]])
        text = torch.cat([text, table[torch.from_numpy(np.array(name))]])
    return features, prior, text


class _TextPairs:
    """Titles and bodies of recipes."""

    def __init__(self, titles: Tensor, bodies: Tensor, batch_size: int) -> None:
        self.titles, self.bodies, self.batch_size = titles, bodies, min(batch_size, len(titles))

    def draw_text(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        picked = torch.randperm(len(self.titles), generator=generator)[: self.batch_size]
        return self.titles[picked], self.bodies[picked]


def _text_pairs(recipe: Recipe, captions: CaptionTable) -> _TextPairs | None:
    rows = [
        r for r in manifest_rows(Path(recipe.corpora), recipe.text.pairs, "text") if r.get("split", "train") == "train"
    ]
    pairs = [(r["extra"]["title"], body_of(r["extra"])) for r in rows]
    pairs = [(a, b) for a, b in pairs if a in captions.index and b in captions.index]
    if not pairs:
        raise ConfigError(
            f"{recipe.text.pairs}: no text pairs with features; run: python -m training.align.features text"
        )
    table = np.asarray(captions.features, np.float32)
    titles, bodies = (torch.from_numpy(table[captions.rows(list(side))]) for side in zip(*pairs, strict=True))
    return _TextPairs(titles, bodies, 128)


def _validation(recipe: Recipe, captions: CaptionTable, number: int) -> Callable[[nn.Module], dict[str, float]]:
    """Recall among the validation split's captions, of its pictures; chance is 10 / captions."""
    sources = [s for s in image_sources(recipe, captions, "val") if len(s.views)]
    if not sources:
        return lambda _: {}
    joined = torch.from_numpy(np.concatenate([np.asarray(s.features[s.views[:, 0]], np.float32) for s in sources]))
    firsts = np.array([int(c[0]) for s in sources for c in s.captions])
    distinct, labels = np.unique(firsts, return_inverse=True)
    text = torch.from_numpy(np.asarray(captions.features[distinct], np.float32))
    target = torch.from_numpy(labels)
    vectors = torch.from_numpy(class_vectors(captions, recipe.image.hypernyms)[0])

    @torch.inference_mode()
    def evaluate(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, _Stage)
        prior = class_mixture(joined[:, -_CLASSES:], module.text(vectors), recipe.image.temperature, recipe.image.top_k)
        scores = module.heads.members[number](joined[:, :-_CLASSES], prior) @ module.text(text).T
        return recall_scalars(scores, target)

    return evaluate
