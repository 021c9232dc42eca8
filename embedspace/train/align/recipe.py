"""Recipes of `embedspace train align`.

    embed_dim = 256
    [pairs]
    manifests = ["birds.csv"]                # a path column, a caption column, a split column
    [towers.photo]
    model = "open_clip:ViT-B-32/laion2b_s34b_b79k"
    modalities = ["image"]
    [towers.words]
    model = "sentence-transformers:all-MiniLM-L6-v2"
    modalities = ["text"]
    [towers.words.projections.text]
    kind = "linear"

One tower takes text; its rows are the space itself unless it has a projection. Every other modality is trained onto it.

    start = "my-space"                       # in the place of all towers: go on from a space that was composed
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from embedspace.config import load
from embedspace.errors import ConfigError

__all__ = [
    "AlignRecipe",
    "LoraRecipe",
    "PairsRecipe",
    "ProjectionRecipe",
    "TowerRecipe",
    "TrainingRecipe",
    "load_align_recipe",
    "options_of",
]


@dataclass(frozen=True)
class PairsRecipe:
    """Where the pairs come from.

    Attributes:
        manifests: CSV, TSV, JSONL, JSON or parquet files, a row an item; relative paths begin at the recipe's folder,
            those in a manifest at the manifest's.
        shards: WebDataset tar files, with braces or wildcards: "train-{0000..0042}.tar".
        captions: Columns that hold captions, each a text or a list of texts, the best first.
        modality: Modality of rows whose file's suffix does not say it, such as "speech".
        split: Column that names the split.
        train: Values of that column for training. A row without one is divided by a hash of its first caption.
        validation: Values of that column for validation; rows of any other split are left out.
        validation_share: Share of the rows without a split that is kept for validation.
    """

    manifests: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    captions: tuple[str, ...] = ("captions", "caption", "text", "sentence", "txt")
    modality: str = ""
    split: str = "split"
    train: tuple[str, ...] = ("train", "training")
    validation: tuple[str, ...] = ("val", "valid", "validation", "dev")
    validation_share: float = 0.1


@dataclass(frozen=True)
class ProjectionRecipe:
    """A projection from a tower's rows into the space.

    Attributes:
        kind: "none" leaves the rows as they are; "linear" or "mlp", trained step by step, as in
            `embedspace.encoders.trained`; "kernel", solved at once by kernel regression: best for some thousand pairs
            or fewer, with frozen towers and a text side that is not trained.
        hidden_dim: Hidden width of linear (0: none) and mlp.
        dropout: Dropout of linear and mlp, while training.
        temperature: Divides the scores of classes that have names.
        top_k: Classes that take part, the likeliest.
        basis_dim: Kernel only: principal directions of the rows that are kept.
        bandwidths: Kernel only: the best on the validation items is taken, the first where there are none, as below.
        ridges: Kernel only: how much it smooths.
        prior_shares: Kernel only: weights of the classes' names.
    """

    kind: Literal["none", "linear", "mlp", "kernel"] = "mlp"
    hidden_dim: int = 512
    dropout: float = 0.3
    temperature: float = 2.0
    top_k: int = 10
    basis_dim: int = 512
    bandwidths: tuple[float, ...] = (2.0, 1.0, 4.0)
    ridges: tuple[float, ...] = (0.2, 0.05, 0.5)
    prior_shares: tuple[float, ...] = (0.6, 0.3, 1.0)


@dataclass(frozen=True)
class LoraRecipe:
    """Low-rank updates of a tower's linear layers, by peft; merged into its weights at the end.

    Attributes:
        targets: Names of modules, or endings of them, such as "q_proj"; empty for all linear layers.

    Source:
        Hu et al. 2022 (LoRA), equation 3.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class TowerRecipe:
    """A tower.

    Attributes:
        model: Reference, as `embedspace.encoders.towers.create_tower` takes it; left out where a run has a `start`.
        modalities: What it is used for; all that it takes where empty.
        options: Further options of its kind, such as `window_seconds`.
        layers: Modules whose outputs are added to its rows of pictures, such as "blocks.6": middle layers see colours
            and shapes that the last one has dropped.
        classifier: The module that gives scores of classes.
        names: What the classes are called: a file, "imagenet", or a list of timm, as
            `embedspace.train.align.classes.read_names` takes it. Their texts' vectors, mixed by the scores, are a
            start in the space for a projection "mlp" or "kernel" (Norouzi et al. 2014, ConSE). Without `classifier`
            the tower's own rows are the scores.
        projections: Modality -> projection; "none" for text and "mlp" for all else where it is left out. Where a run
            starts from a space: the kind of the correction that is added to what the space has.
        unfreeze: Patterns of parameter names that are trained too, such as "*blocks.11.*"; none: the tower is frozen
            (Zhai et al. 2022, LiT), and its rows are computed once.
        lora: Low-rank updates instead.
    """

    model: str = ""
    modalities: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    classifier: str = ""
    names: str = ""
    projections: dict[str, ProjectionRecipe] = field(default_factory=dict)
    unfreeze: tuple[str, ...] = ()
    lora: LoraRecipe | None = None

    @property
    def tuned(self) -> bool:
        """Whether training changes the tower."""
        return bool(self.unfreeze or self.lora)

    def projection(self, modality: str) -> ProjectionRecipe:
        """Return the projection of a modality."""
        default = ProjectionRecipe("none" if modality == "text" else "mlp")
        return self.projections.get(modality, default)


def options_of(tower: TowerRecipe) -> dict[str, Any]:
    """Return the options that `create_tower` is given; a bundled network, without a prefix, is for one modality."""
    named = {"modalities": list(tower.modalities)} if tower.modalities and ":" in tower.model else {}
    layers = [*tower.layers, *([tower.classifier] if tower.classifier else [])]
    return {**tower.options, **named, **({"layers": layers} if layers else {})}


@dataclass(frozen=True)
class TrainingRecipe:
    """How long and how fast.

    Attributes:
        batch_size: Pairs per step and modality; with several processes, of all of them together.
        chunk: Pairs whose networks run at once, 0 for all. The gradient is that of the whole batch; only memory and
            time change (Gao et al. 2021, GradCache).
        tower_rate: Learning rate of tuned towers, as a share of `learning_rate`.
        loss: "infonce" or "siglip".
        positive_above: Cosine of two captions, by the text tower about its mean, from which they count as the same.
        ignore_above: Cosine from which captions that are not the same are no negatives either.
        first_caption: Probability of an item's first caption rather than any of its captions.
        bfloat16: Compute in bfloat16 where the device can.
        evaluate_every: Steps between validations.
        checkpoint_seconds: Seconds between checkpoints.
    """

    steps: int = 1000
    batch_size: int = 256
    chunk: int = 0
    learning_rate: float = 1e-3
    tower_rate: float = 0.01
    weight_decay: float = 0.1
    warmup_steps: int = 50
    loss: Literal["infonce", "siglip"] = "infonce"
    positive_above: float = 0.98
    ignore_above: float = 0.98
    first_caption: float = 0.6
    bfloat16: bool = False
    evaluate_every: int = 100
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class AlignRecipe:
    """A whole run of `embedspace train align`.

    Attributes:
        embed_dim: Width of the space; 0 for that of the text tower's rows.
        start: Folder of a space of towers to go on from: its projections and connectors stay as they are, and beside
            each a correction is trained that is zero at first.
        anchor: The tower that text goes through; needed where several take text.
        features: Folder that keeps the rows of frozen towers, by the towers' digests; runs may share it.
        towers: Name -> tower.
        folder: Where the recipe lies.
    """

    name: str
    seed: int = 0
    embed_dim: int = 0
    start: str = ""
    anchor: str = ""
    features: str = "build/tower-features"
    pairs: PairsRecipe = field(default_factory=PairsRecipe)
    towers: dict[str, TowerRecipe] = field(default_factory=dict)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    folder: Path = Path()

    def digest(self, towers: Mapping[str, str], items: str) -> str:
        """Return a hex digest of what determines the weights: a checkpoint of another one is refused.

        The number of steps, how often is looked, and how the work is divided do not belong to it.

        Args:
            towers: Name -> digest.
            items: Digest of the pairs.
        """
        training = dataclasses.asdict(self.training)
        for key in ("steps", "chunk", "evaluate_every", "checkpoint_seconds", "bfloat16"):
            del training[key]
        kept = {name: dataclasses.asdict(tower) for name, tower in self.towers.items()}
        what = [self.seed, self.embed_dim, self.anchor, kept, training, dict(towers), items]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def load_align_recipe(path: str | Path) -> AlignRecipe:
    """Read a recipe.

    Raises:
        ConfigError: If the file is missing, is no TOML, has an unknown or wrong key, or names no towers or no pairs.
    """
    recipe = load(AlignRecipe, path, what="recipe", folder=Path(path).parent)
    if not recipe.towers and not recipe.start:
        raise ConfigError(f"{path}: no towers; add a [towers.NAME] table with a model, or start from a space")
    if not recipe.pairs.manifests and not recipe.pairs.shards:
        raise ConfigError(f"{path}: no pairs; name manifests or shards in [pairs]")
    for name, tower in recipe.towers.items():
        if not tower.model and not recipe.start:
            raise ConfigError(f"{path}: towers.{name}: key 'model' is missing")
        if tower.unfreeze and tower.lora:
            raise ConfigError(f"{path}: towers.{name}: either unfreeze or lora, not both")
        if recipe.start and (tower.layers or tower.classifier or tower.names):
            raise ConfigError(f"{path}: towers.{name}: layers, classifier and names are those of the start")
        if tower.classifier and not tower.names:
            raise ConfigError(f"{path}: towers.{name}: a classifier without names; say what its classes are called")
        if recipe.start and any(wanted.kind == "kernel" for wanted in tower.projections.values()):
            raise ConfigError(f"{path}: towers.{name}: a kernel is no correction of a space; use linear or mlp")
        _check_projections(f"{path}: towers.{name}.projections", tower)
    if recipe.training.batch_size < 2 or recipe.training.steps < 1:
        raise ConfigError(f"{path}: training: at least 1 step of at least 2 pairs")
    return recipe


def _check_projections(where: str, tower: TowerRecipe) -> None:
    """Refuse what no projection can be.

    Raises:
        ConfigError: If one is.
    """
    for modality, wanted in tower.projections.items():
        if wanted.kind == "kernel" and tower.tuned:
            raise ConfigError(f'{where}.{modality}: a kernel is for a frozen tower; use kind = "mlp"')
        if tower.names and wanted.kind in ("none", "linear") and modality != "text":
            raise ConfigError(f'{where}.{modality}: names of classes are for kind = "mlp" or "kernel"')
        if not (wanted.bandwidths and wanted.ridges and wanted.prior_shares):
            raise ConfigError(f"{where}.{modality}: bandwidths, ridges and prior_shares need a value each")
