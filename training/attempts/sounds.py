"""Try ways to learn sounds, each with learning curves on sources of the training set that are held out in turn.

    python -m training.attempts.sounds                        # all, 15 minutes of one core
    python -m training.attempts.sounds --only memory          # one; the others' rows stay
    python -m training.attempts.sounds --sources sounds-gcompris --steps 100

Writes eval/results/attempts/sounds.csv, a row an attempt, held-out source and step, and sounds.png, their means. Recall
is in percent: recall_at_1 of concepts that another source has, among the names of all concepts that two training
sources share; recall_at_10 of all concrete clips of the source, among the source's own captions. Tux Paint's effects,
the test set, are neither trained nor asked. Features first: see training/README.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.projections import KernelProjection
from embedspace.encoders.shipped.audio import AudioProjections
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.space import EmbeddingSpace
from embedspace.train.batches import CaptionTable
from embedspace.train.kernel_regression import fit_regression
from embedspace.train.loop import FitProgress
from training.align.recipe import AudioRecipe, Recipe, load_recipe
from training.align.stages.audio import train_audio, training_rows
from training.align.stages.memory import memory_items
from training.align.tables import Row, caption_table, manifest_rows, pair_source, read_features
from training.attempts.sound_net import SAMPLE_RATE, MelNet, fit_mel_net, fixed_length, log_mel
from training.corpora.manifest import Item
from training.corpora.sounds.clips import read_clip

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "training/recipes/sounds.toml"
OUT = ROOT / "eval/results/attempts"
VALIDATION = ("sounds-gcompris", "sounds-scratch", "sounds-wesnoth")
TEST = "sounds-tux"
MELS = "mels"
RECALLS = ("recall_at_1", "recall_at_10")
FIELDS = ("attempt", "source", "along", "at", "loss", *RECALLS)
SHARES = (0.25, 0.5, 1.0)
STEPS = 250
NET_SHARE = 0.3
"""Share of the log-mel network beside the memory; the other is 1."""
TRAINED = AudioRecipe(
    sources={"sounds": 1.0, "instruments": 0.4}, members=1, dropout=0.6, steps=STEPS, batch_size=128, views=1
)
"""Recipe of the heads that are trained by steps."""

Measure = Callable[[Tensor], dict[str, float]]
Tell = Callable[[str, float, float, dict[str, float]], None]
"""Told what the curve runs along ("step" or "share"), where on it, the loss, and the recalls."""


@dataclasses.dataclass(frozen=True)
class Fold:
    """One held-out source.

    Attributes:
        recipe: Leaves the source out.
        rows: Its concrete clips.
        features: (N, feature_dim) of theirs.
        logits: (N, classes).
        measure: Recalls of (N, embed_dim) unit rows of theirs.
    """

    recipe: Recipe
    rows: list[Row]
    features: Tensor
    logits: Tensor
    measure: Measure


class Material:
    """Holds the sounds, the words and the text head.

    Args:
        recipe: Starts from a space; its audio part is the memory that ships.
    """

    def __init__(self, recipe: Recipe) -> None:
        space = EmbeddingSpace.from_pretrained(recipe.start)
        self.recipe = recipe
        self.text = load_text_projection(space.config["sections"]["text"]["head"], space.folder)
        self.captions: CaptionTable = caption_table(Path(recipe.features))
        self.rows = [
            row
            for row in manifest_rows(Path(recipe.corpora), "sounds", "audio")
            if row.get("split", "train") == "train" and row["source"] != TEST and not row["extra"].get("abstract")
        ]
        heard: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            heard[row["concept"]].add(row["source"])
        self.shared = sorted(concept for concept, sources in heard.items() if len(sources) > 1)

    @torch.inference_mode()
    def words(self, texts: list[str]) -> Tensor:
        """Return (N, embed_dim) unit rows of texts."""
        return self.text(torch.from_numpy(np.asarray(self.captions.features[self.captions.rows(texts)], np.float32)))

    def fold(self, source: str) -> Fold:
        """Return what is needed to hold a source out."""
        audio = dataclasses.replace(self.recipe.audio, exclude=(source,))
        rows = [row for row in self.rows if row["source"] == source]
        table = read_features(Path(self.recipe.features), "audio", "sounds", 1)
        at = [table.index[row["id"]][0] for row in rows]
        names = sorted({row["captions"][0] for row in rows})
        known = [k for k, row in enumerate(rows) if row["concept"] in set(self.shared)]
        concepts, own = self.words(self.shared), self.words(names)

        def measure(vectors: Tensor) -> dict[str, float]:
            first = [self.shared.index(rows[k]["concept"]) for k in known]
            tenth = [names.index(row["captions"][0]) for row in rows]
            return {
                "recall_at_1": _recall(vectors[known], concepts, first, 1),
                "recall_at_10": _recall(vectors, own, tenth, 10),
            }

        width = table.features.shape[1]
        features, logits = table.features[at][:, :width], table.logits[at]
        return Fold(
            dataclasses.replace(self.recipe, audio=audio),
            rows,
            torch.from_numpy(features.astype(np.float32)),
            torch.from_numpy(logits.astype(np.float32)),
            measure,
        )


def _recall(queries: Tensor, gallery: Tensor, answers: list[int], k: int) -> float:
    """Return recall at k in percent; ties count against the answer."""
    scores = queries @ gallery.T
    rank = (scores >= scores[torch.arange(len(answers)), answers][:, None]).sum(dim=1)
    return 100 * float((rank <= k).float().mean())


def _with(fold: Fold, audio: AudioRecipe) -> Recipe:
    return dataclasses.replace(fold.recipe, audio=dataclasses.replace(audio, exclude=fold.recipe.audio.exclude))


def trained(loss: str, **options: float) -> Callable[[Material, Fold, int, Tell], Tensor]:
    """Return an attempt: one head on the frozen features, trained by steps with a contrastive loss."""

    def attempt(material: Material, fold: Fold, steps: int, tell: Tell) -> Tensor:
        recipe = _with(fold, dataclasses.replace(TRAINED, loss=loss, steps=steps, **options))

        def told(progress: FitProgress) -> None:
            if "recall_at_1" in progress.scalars:
                scalars = dict(progress.scalars)
                tell("step", progress.step, scalars.pop("loss"), scalars)

        def evaluate(heads: AudioProjections) -> dict[str, float]:
            return fold.measure(heads(fold.features, fold.logits))

        heads = train_audio(recipe, material.text, Path("build/runs/attempts") / loss, 1e9, False, told, evaluate)
        assert heads is not None
        with torch.inference_mode():
            return heads(fold.features, fold.logits)

    return attempt


def memory(material: Material, fold: Fold, steps: int, tell: Tell) -> Tensor:
    """Remember the training sounds; the curve runs along the share of them that are known."""
    recipe = fold.recipe
    whole = train_audio(recipe, material.text, Path(), 1e9, False, lambda _: None)
    assert whole is not None
    assert whole.memory is not None
    vectors = fold.features
    with torch.inference_mode():
        prior = whole.prior(fold.logits)
    for share in SHARES:
        head = whole.memory if share == 1.0 else _memory_of(material, recipe, share)
        with torch.inference_mode():
            vectors = head(fold.features, prior)
        tell("share", share, float("nan"), fold.measure(vectors))
    return vectors


def _memory_of(material: Material, recipe: Recipe, share: float) -> KernelProjection:
    """Return the recipe's memory of a part of its sounds, drawn by a hash of their names."""
    wanted, sources = recipe.audio, []
    for name, weight in wanted.sources.items():
        rows = [r for r in training_rows(recipe, name) if zlib.crc32(f"{r['id']} share".encode()) < share * 2**32]
        table = read_features(Path(recipe.features), "audio", name, wanted.views)
        sources.append(pair_source(name, rows, table, material.captions, weight=weight))
    items = memory_items(sources, material.captions, material.text, sources[0].features.shape[1], wanted.memory_balance)
    return fit_regression(
        items,
        wanted.memory_dim,
        bandwidth=wanted.memory_bandwidth,
        ridge=wanted.memory_ridge,
        prior_share=wanted.memory_prior,
    )


def net(material: Material, fold: Fold, steps: int, tell: Tell) -> Tensor:
    """Train a log-mel network from nothing; its last row is its mean with the memory."""
    recipe = fold.recipe
    mels = {name: _mels(recipe, name) for name in recipe.audio.sources}
    rows = [(name, row) for name in recipe.audio.sources for row in training_rows(recipe, name)]
    rows = [(name, row) for name, row in rows if row["id"] in mels[name]]
    weights = np.array([recipe.audio.sources[name] / len(mels[name]) for name, _ in rows])
    targets = material.words([row["captions"][0] for _, row in rows]).numpy()
    asked = torch.from_numpy(np.stack([fixed_length(mels["sounds"][row["id"]]) for row in fold.rows]))

    def evaluate(model: MelNet, step: int, loss: float) -> None:
        with torch.inference_mode():
            tell("step", step, loss, fold.measure(model(asked)))

    model = fit_mel_net([mels[n][r["id"]] for n, r in rows], targets, weights, 0, evaluate, steps)
    with torch.inference_mode():
        return model(asked)


def _mels(recipe: Recipe, source: str) -> dict[str, np.ndarray]:
    """Return item id -> (frames, bands) log-mel of the network's front end; kept under the features."""
    path = Path(recipe.features) / MELS / f"{source}.npz"
    if not path.exists():
        found: dict[str, np.ndarray] = {}
        for row in manifest_rows(Path(recipe.corpora), source, "audio"):
            if row.get("split", "train") in ("train", "val"):
                keys = ("captions", "keywords")
                item = Item(**{**row, **{key: tuple(row.get(key, ())) for key in keys}})
                waveform = read_clip(item, SAMPLE_RATE)[: 6 * SAMPLE_RATE]
                level = 0.7 / max(float(np.abs(waveform).max()), 1e-5)
                found[row["id"]] = log_mel(torch.from_numpy(waveform * level)).numpy().astype(np.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        starts = np.cumsum([0, *(len(mel) for mel in found.values())])
        np.savez(path, ids=np.array(list(found)), starts=starts, mels=np.concatenate(list(found.values())))
    stored = np.load(path)
    starts, packed = stored["starts"], stored["mels"]
    return {name: packed[starts[k] : starts[k + 1]] for k, name in enumerate(stored["ids"].tolist())}


ATTEMPTS: dict[str, Callable[[Material, Fold, int, Tell], Tensor]] = {
    "infonce": trained("infonce"),
    "siglip": trained("siglip"),
    "log-mel net": net,
    "memory": memory,
}
"""Name -> attempt; the last is what ships."""
MIXED = {"infonce + memory": "infonce", "siglip + memory": "siglip", "log-mel net + memory": "log-mel net"}
"""Name -> the attempt that is mixed with the memory by NET_SHARE."""


def run(material: Material, source: str, names: Iterable[str], steps: int) -> list[dict[str, object]]:
    """Return the rows of the curves of one held-out source; the memory is always run, to be mixed with the others."""
    rows: list[dict[str, object]] = []

    def teller(name: str) -> Tell:
        def tell(along: str, at: float, loss: float, recalls: dict[str, float]) -> None:
            values = {key: round(value, 3) for key, value in (("loss", loss), *recalls.items())}
            rows.append({"attempt": name, "source": source, "along": along, "at": at, **values})
            print(name, source, along, at, values, flush=True)

        return tell

    fold = material.fold(source)
    found = {
        name: ATTEMPTS[name](material, fold, steps, teller(name)) for name in {**dict.fromkeys(names), "memory": None}
    }
    for both, part in MIXED.items():
        if part in found:
            mixed = F.normalize(found["memory"] + NET_SHARE * found[part], dim=1)
            teller(both)("share", NET_SHARE, float("nan"), fold.measure(mixed))
    return rows


def write(rows: list[dict[str, object]], out: Path) -> None:
    """Write the table, the rows of attempts that were not run kept, and the plot."""
    path = out / "sounds.csv"
    new = {row["attempt"] for row in rows}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["attempt"] not in new] + rows
    out.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, out / "sounds.png")


def curve(rows: list[dict[str, object]], name: str, along: str, metric: str) -> tuple[list[float], list[float]]:
    """Return where an attempt was measured and the means over the held-out sources there."""
    values: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if (row["attempt"], row["along"]) == (name, along):
            values[float(str(row["at"]))].append(float(str(row[metric])))
    return sorted(values), [float(np.mean(values[at])) for at in sorted(values)]


def plot(rows: list[dict[str, object]], path: Path) -> None:
    """Draw the means over the held-out sources: attempts by step, the memory by share of the training sounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    names = [name for name in dict.fromkeys(str(row["attempt"]) for row in rows) if name not in MIXED]
    for axis, metric in zip(axes, RECALLS, strict=False):
        for name in names:
            at, means = curve(rows, name, "step", metric)
            if at:
                axis.plot(at, means, marker="o", label=name)
        for name in ("memory", *MIXED):
            at, means = curve(rows, name, "share", metric)
            if at:
                axis.axhline(means[-1], linestyle="--", color="black" if name == "memory" else "grey", label=name)
        axis.set_xlabel("step")
        axis.set_title(metric)
    for metric in RECALLS:
        axes[2].plot(*curve(rows, "memory", "share", metric), marker="o", label=f"memory, {metric}")
    axes[2].set_xlabel("share of the training sounds")
    for axis in axes:
        axis.set_ylabel("%, mean of held-out sources")
        axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ATTEMPTS), help="attempts; all by default")
    parser.add_argument("--sources", nargs="+", default=list(VALIDATION), help="held out in turn")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    material = Material(load_recipe(RECIPE))
    names = arguments.only or list(ATTEMPTS)
    write([row for source in arguments.sources for row in run(material, source, names, arguments.steps)], arguments.out)


if __name__ == "__main__":
    main()
