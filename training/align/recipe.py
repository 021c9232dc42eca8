"""Training recipes: frozen dataclasses own the defaults, a TOML file lists what differs, an unknown key is an error."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.config import load
from embedspace.errors import ConfigError

__all__ = ["AudioRecipe", "ImageRecipe", "Recipe", "SpeechRecipe", "TextRecipe", "load_recipe"]


@dataclass(frozen=True)
class TextRecipe:
    """The text side: which backbone, and the head trained together with the image heads.

    Attributes:
        locked: Leave the head of `start` as it is and train the images onto it (Zhai et al. 2022, LiT), so that every
            other modality's vectors stay valid.
        pairs: Source of text pairs, titles and bodies of recipes, that train the head beside the images.
        pair_share: Weight of their loss.
    """

    backbone: str = "minilm_l6"
    feature_dim: int = 384
    hidden_dim: int = 512
    dropout: float = 0.1
    pairs: str = "recipes"
    pair_share: float = 0.2
    locked: bool = False


@dataclass(frozen=True)
class ImageRecipe:
    """Stage 1: image heads and the text head.

    Attributes:
        sources: Source -> share of a batch.
        tail: Folder of the tuned tail and its features; empty for none.
        networks: Folders of networks tuned by `training.finetune.network`, whose mean vector is mixed with the heads'.
            How much of it is chosen on the validation split.
        keep_members: So many of the heads of `start` stay; the others are trained. With a locked text head alone.
        drop: Item ids or sources are left out when their `extra` has this key ("near_stamp"); empty for none.
        class_rows: ImageNet class rows a batch, paired with the class names.
        hypernyms: Weight of a class's hypernyms in its ConSE vector.
        loss: "infonce" or "siglip".
    """

    backbones: tuple[str, ...] = ("efficientnet_lite0", "efficientnet_lite2")
    sources: dict[str, float] = field(default_factory=dict)
    tail: str = ""
    networks: tuple[str, ...] = ()
    keep_members: int = 0
    drop: str = ""
    views: int = 1
    hidden_dim: int = 512
    members: int = 3
    dropout: float = 0.4
    steps: int = 1000
    batch_size: int = 384
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    first_caption: float = 0.6
    keywords: int = 3
    positive_above: float = 0.9
    ignore_above: float = 0.75
    mixup: float = 0.0
    class_rows: int = 64
    hypernyms: float = 0.3
    temperature: float = 2.0
    top_k: int = 10
    loss: str = "infonce"


@dataclass(frozen=True)
class AudioRecipe:
    """Stage 2: audio heads on the frozen text head, and the speech-or-sound router.

    Attributes:
        sources: Source -> share of a batch.
        exclude: Values of the rows' `source` that are left out, with every copy of their recordings elsewhere.
        loss: "infonce" or "siglip", of the trained heads.
        members: Trained heads; may be 0 where there is a memory.
        memory_dim: Principal directions that the memory compares sounds in; 0 for no memory.
        memory_bandwidth: Bandwidth of the memory's kernel.
        memory_ridge: How much it smooths.
        memory_prior: Weight of the classes' words beside what it reads out.
        memory_balance: An item of a concept with n items weighs n to the power of minus this.
        memory_share: Weight of the memory beside one trained head.
        keep_router: Take over the router of `start` instead of training one, which needs features of speech.
    """

    backbones: tuple[str, str] = ("yamnet", "whisper_base")
    sources: dict[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    views: int = 3
    hidden_dim: int = 384
    members: int = 3
    dropout: float = 0.5
    steps: int = 600
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    positive_above: float = 0.85
    ignore_above: float = 0.6
    mixup: float = 0.4
    temperature: float = 1.0
    window_seconds: float = 6.0
    loss: str = "infonce"
    memory_dim: int = 0
    memory_bandwidth: float = 2.0
    memory_ridge: float = 0.2
    memory_prior: float = 0.3
    memory_balance: float = 0.3
    memory_share: float = 1.0
    keep_router: bool = False


@dataclass(frozen=True)
class SpeechRecipe:
    """Stage 3: attention pooling from Whisper's frames into the text backbone's space.

    Attributes:
        go_on: Begin with the heads of `start` instead of new ones; members beyond them are new.
        go_on_share: Share of what was trained on in the weights; those of `start` have the rest (Wortsman et al. 2022,
            "Robust fine-tuning of zero-shot models", WiSE-FT): what a narrow set teaches, without forgetting the rest.
        languages: Language -> weight of its clips among all, 1 where none is named; a big language gets less than its
            number of clips says in any case.
        decoder: Backbone that recognises words, whose text vector is mixed with the head's; none if empty. How much of
            it is chosen on the validation split.
    """

    backbone: str = "whisper_base"
    sources: dict[str, float] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)
    hidden_dim: int = 384
    num_layers: int = 1
    members: int = 1
    dropout: float = 0.1
    steps: int = 11000
    through_steps: int = 2100
    through_learning_rate: float = 6e-4
    batch_size: int = 64
    max_seconds: float = 8.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    regression: float = 1.0
    bfloat16: bool = True
    window_seconds: float = 12.0
    go_on: bool = False
    go_on_share: float = 1.0
    decoder: str = ""


@dataclass(frozen=True)
class Recipe:
    """A whole run of `python -m training.align`.

    Attributes:
        corpora: Folder of the built corpora.
        features: Folder of the cached features.
        stages: Which stages to run, in order.
        start: Folder of weights to start from; stages that are not run are taken from there.
    """

    name: str
    seed: int = 0
    embed_dim: int = 256
    corpora: str = "build/corpora"
    features: str = "build/features"
    stages: tuple[str, ...] = ("image", "audio", "speech")
    start: str = ""
    text: TextRecipe = field(default_factory=TextRecipe)
    image: ImageRecipe = field(default_factory=ImageRecipe)
    audio: AudioRecipe = field(default_factory=AudioRecipe)
    speech: SpeechRecipe = field(default_factory=SpeechRecipe)

    def digest(self, stage: str) -> str:
        """Return a hex digest of what determines a stage's training; where the corpora lie does not."""
        own = dataclasses.asdict(getattr(self, stage))
        for name in ("decoder", "go_on_share"):
            own.pop(name, None)  # come in when all is trained
        if stage == "image":
            own["networks"] = ()  # so do they
        what = [self.seed, self.embed_dim, self.start, dataclasses.asdict(self.text), own]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


LOSSES = ("infonce", "siglip")


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: If the file is missing, is no TOML, or has an unknown or wrong key.
    """
    file = Path(path)
    recipe = load(Recipe, file, what="recipe", hint="the shipped ones are in training/recipes")
    if recipe.text.locked and not recipe.start:
        raise ConfigError(f"{file} [text]: a locked text head must come from somewhere; set start to a space's folder")
    for name, loss in (("image", recipe.image.loss), ("audio", recipe.audio.loss)):
        if loss not in LOSSES:
            raise ConfigError(f"{file} [{name}]: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if recipe.audio.members < 1 and not recipe.audio.memory_dim:
        raise ConfigError(f"{file} [audio]: neither trained heads nor a memory; set members or memory_dim")
    if recipe.image.keep_members and not (recipe.start and recipe.text.locked):
        raise ConfigError(
            f"{file} [image]: heads to keep belong to the text head of start; set start and [text] locked"
        )
    if recipe.speech.go_on and not recipe.start:
        raise ConfigError(
            f"{file} [speech]: heads to go on from must come from somewhere; set start to a space's folder"
        )
    if recipe.audio.keep_router and not recipe.start:
        raise ConfigError(f"{file} [audio]: a router to keep must come from somewhere; set start to a space's folder")
    return recipe
