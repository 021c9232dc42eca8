"""`embedspace train generator`: train a generator as a recipe says, and write the folder that it is loaded from."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError
from embedspace.files import write_text
from embedspace.generate.registry import FORMAT
from embedspace.space import EmbeddingSpace
from embedspace.train.curves import Curves
from embedspace.train.generators.recipe import GeneratorRecipe, load_generator_recipe
from embedspace.train.generators.texts import GeneratorTexts, OwnVectors, own_vectors, read_texts, rows_of, text_vectors
from embedspace.train.loop import FitConfig, FitProgress

__all__ = ["GeneratorRun", "measured_sigma", "open_run", "train_generator", "write_generator_config"]

_MODULES = {
    "vocabulary": "embedspace.train.generators.vocabulary",
    "text": "embedspace.train.generators.captions",
    "speech": "embedspace.train.generators.speech",
    "image": "embedspace.train.generators.image",
    "audio": "embedspace.train.generators.audio",
    "lips": "embedspace.train.generators.lips.run",
    "faces": "embedspace.train.generators.faces.run",
    "vocoder": "embedspace.train.generators.conversion.run",
    "conversion": "embedspace.train.generators.conversion.run",
    "style": "embedspace.train.generators.styles.run",
    "frames": "embedspace.train.generators.frames.run",
}
UNMEASURED_SIGMA = 1.0
"""Noise assumed in vectors that nothing is known of: their cosine with the caption's would be 0.71."""
_CLASSES = Path(__file__).resolve().parents[2] / "weights" / "imagenet_classes.json"


@dataclass(frozen=True)
class GeneratorRun:
    """What a stage of a generator's training is given.

    Attributes:
        recipe: The recipe.
        space: Whose vectors it learns from.
        out: Where the generator, checkpoints, logs and plots go; the generator itself into `out / "generator"`.
        minutes: Wall-time budget of each of the generator's stages.
        resume: Go on from the checkpoints.
        rows: Rows of all manifests.
        vectors: Text -> centred unit vector.
        texts: Texts of the training split.
        tell: Told of progress.
        families: The only families that are trained; none for all of the recipe's.
    """

    recipe: GeneratorRecipe
    space: EmbeddingSpace
    out: Path
    minutes: float
    resume: bool
    rows: list[dict[str, Any]]
    vectors: Mapping[str, Any]
    texts: GeneratorTexts
    tell: Callable[[FitProgress], None]
    families: tuple[str, ...] = ()

    def own(self, modality: str) -> OwnVectors | None:
        """Return the vectors of a modality's items, None where none were made."""
        return own_vectors(Path(self.recipe.features), self.space, self.rows, self.vectors, modality)

    def fit_config(self, section: Any, steps: int, share: float = 1.0) -> FitConfig:  # noqa: ANN401 - any recipe
        """Return how a stage is trained: `share` of the minutes is its."""
        return FitConfig(
            steps=steps,
            learning_rate=section.learning_rate,
            weight_decay=section.weight_decay,
            warmup_steps=min(100, steps // 10),
            minutes=self.minutes * share,
            seed=self.recipe.seed,
            cooldown=0.2,
            evaluate_every=max(1, min(250, steps // 4)),
        )

    @property
    def folder(self) -> Path:
        """The folder that the generator is loaded from."""
        path = self.out / "generator"
        path.mkdir(parents=True, exist_ok=True)
        return path


def train_generator(
    recipe: str | Path,
    *,
    minutes: float | None = None,
    out: Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    families: Sequence[str] = (),
    videos: Path | None = None,
    landmarks: Path | None = None,
    pairs: Path | None = None,
    folders: tuple[Path, Path] | None = None,
    callback: Callable[[FitProgress], None] | None = None,
) -> Path:
    """Train a generator.

    Args:
        recipe: A TOML file; see `GeneratorRecipe`.
        minutes: Wall-time budget; what there is then is written.
        out: Folder of the run; build/runs/generators/<kind> by default.
        resume: Go on from the checkpoints in `out`.
        seed: Instead of the recipe's.
        families: Only these; where `out` holds a generator, on its latents and beside its families.
        videos: Folder of films that lips are read in, or whose next frames are learnt; for "lips" and "frames" alone.
        landmarks: Folder of the landmarks of those films; for "lips" alone.
        folders: Pictures of one kind and of another that they are to become; for kind "style" alone.
        pairs: Manifest of recordings and pictures of faces; for kind "faces" alone.
        callback: Told of progress, about once a minute.

    Returns:
        The folder of the generator, which goes to embedspace/weights/heads/<kind>.

    Raises:
        ConfigError: If the recipe is wrong, or corpora or vectors are missing.
    """
    loaded = load_generator_recipe(recipe, families)
    if seed is not None:
        loaded = dataclasses.replace(loaded, seed=seed)
    _check_kind(recipe, loaded.kind, videos, folders, pairs)
    if landmarks is not None and loaded.kind != "lips":
        raise ConfigError(f"{recipe}: a generator of {loaded.kind} takes no landmarks; leave --landmarks out")
    folder = out or Path("build/runs/generators") / loaded.kind
    curves = Curves(folder)
    tell = _drawn_and_told(curves, callback)
    try:
        module = importlib.import_module(_MODULES[loaded.kind])
        own = {"lips": videos, "frames": videos, "style": folders, "faces": pairs, "vocoder": None, "conversion": None}
        if loaded.kind in own:  # no space's vectors take part
            more = {} if landmarks is None else {"landmarks": landmarks}
            made: Path = module.train_recipe(loaded, folder, minutes, resume, tell, own[loaded.kind], **more)
        else:
            run = open_run(loaded, folder, minutes=minutes, resume=resume, tell=tell, families=tuple(families))
            module.train(run)
            made = run.folder
    finally:
        curves.close()
    resolved = {k: v for k, v in dataclasses.asdict(loaded).items() if k not in _MODULES or k == loaded.kind}
    write_text(made / "recipe.json", json.dumps(resolved, indent=1) + "\n")
    return made


def _drawn_and_told(curves: Curves, callback: Callable[[FitProgress], None] | None) -> Callable[[FitProgress], None]:
    """Return what adds progress to curves, and tells the caller of it."""

    def tell(progress: FitProgress) -> None:
        if progress.seconds and progress.scalars:  # of the loop, not of reading
            curves.add(progress)
        if callback is not None:
            callback(progress)

    return tell


def _check_kind(
    recipe: str | Path, kind: str, videos: Path | None, folders: tuple[Path, Path] | None, pairs: Path | None
) -> None:
    """Refuse what a generator of another kind is learnt from."""
    if videos is not None and kind not in ("lips", "frames"):
        raise ConfigError(f"{recipe}: a generator of {kind} learns from no videos; leave videos (--videos) out")
    if folders is not None and kind != "style":
        raise ConfigError(f"{recipe}: a generator of {kind} learns from no two folders; leave --from and --to out")
    if pairs is not None and kind != "faces":
        raise ConfigError(f"{recipe}: a generator of {kind} learns from no pairs; leave pairs (--pairs) out")


def open_run(
    recipe: GeneratorRecipe,
    out: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    tell: Callable[[FitProgress], None] = lambda progress: None,
    families: tuple[str, ...] = (),
) -> GeneratorRun:
    """Read what a stage is given: the space, the manifests, the vectors.

    Args:
        recipe: The recipe.
        out: Folder of the run.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoints in `out`.
        tell: Told of progress.
        families: As `GeneratorRun`.

    Raises:
        ConfigError: If corpora or vectors are missing, or the vectors are of other weights.
    """
    space = EmbeddingSpace.from_pretrained(recipe.space or None)
    rows = rows_of(Path(recipe.corpora))
    vectors = text_vectors(Path(recipe.features), space)
    return GeneratorRun(
        recipe=recipe,
        space=space,
        out=out,
        minutes=1e9 if minutes is None else minutes,
        resume=resume,
        rows=rows,
        vectors=vectors,
        texts=read_texts(rows, vectors, _CLASSES),
        tell=tell,
        families=families,
    )


def write_generator_config(run: GeneratorRun, sections: Mapping[str, Any]) -> None:
    """Write config.json of a generator: its sections, and the text projection whose vectors it was trained on."""
    config = {"format": FORMAT, "text_head": run.space.config["files"].get("text.safetensors", ""), **sections}
    write_text(run.folder / "config.json", json.dumps(config, indent=1) + "\n")


def measured_sigma(run: GeneratorRun) -> dict[str, float]:
    """Return source modality -> noise in its centred vectors; 0 for texts, for compositions half of that of pictures.

    Where nothing measures it, `UNMEASURED_SIGMA` is assumed, and the run is told so.
    """
    sigma, assumed = {"text": 0.0}, {}
    for modality in ("image", "audio", "speech"):
        own = run.own(modality)
        if own is None:
            continue
        if own.sigma is None:
            assumed[modality] = UNMEASURED_SIGMA
        sigma[modality] = round(UNMEASURED_SIGMA if own.sigma is None else own.sigma, 4)
    if "image" not in sigma:
        assumed["mixed"] = UNMEASURED_SIGMA / 2
    sigma["mixed"] = sigma.get("image", UNMEASURED_SIGMA) / 2
    if assumed:
        run.tell(FitProgress("noise assumed, for no vectors with captions measure it", 1, 1, 0.0, assumed))
    return sigma
