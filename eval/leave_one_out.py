"""Measure sounds of known concepts from unknown sources: every source left out in turn.

    python -m eval.leave_one_out                                # the recipe of the shipped sounds; minutes on one core
    python -m eval.leave_one_out --recipe FILE --out FOLDER     # another one
    python -m eval.leave_one_out --without sounds-tux           # to choose by: without the test source

The sounds of each source are encoded by heads that a recipe trains without that source and without copies of its
recordings; of the weights that ship only the locked text head plays a part. Asked are the clips whose concept another
source in training has; the gallery are the names of all concepts that two or more sources share. Needs the corpora that
the suite and the recipe name, their features (training.align.features audio) and those of the texts.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.shipped.audio import AudioProjections
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.items import EvalItem, select_all
from embedspace.evaluate.report import git_commit, report, splits_digest, write_report
from embedspace.evaluate.retrieval.run import SuiteResult, evaluate_suite
from embedspace.evaluate.suite import Suite, load_suite
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace
from training.align.recipe import Recipe, load_recipe
from training.align.stages.audio import train_audio, training_rows
from training.align.tables import FeatureTable, read_features

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "eval/suites/sounds_leave_one_out.toml"
RECIPE = ROOT / "training/recipes/sounds.toml"
RESULTS = ROOT / "eval/results"


class LeaveOneOut:
    """Encodes each sound by heads that never heard its source.

    Attributes:
        recipe: How heads are trained; starts from a space, whose text head is theirs.
        space: That space.
        checkpoints: Folder that heads trained by steps keep theirs in, a folder a source.
    """

    def __init__(self, recipe: Recipe, checkpoints: Path) -> None:
        """Open the space.

        Raises:
            ConfigError: If the recipe starts from no space.
        """
        if not recipe.start:
            raise ConfigError(f"recipe {recipe.name}: start is empty; name the space whose text head is to be met")
        self.recipe, self.checkpoints = recipe, checkpoints
        self.space = EmbeddingSpace.from_pretrained(recipe.start)
        self.text = load_text_projection(self.space.config["sections"]["text"]["head"], self.space.folder)
        self._digest = hashlib.sha256()

    def heads(self, source: str) -> AudioProjections:
        """Return heads trained without a source."""
        audio = dataclasses.replace(self.recipe.audio, exclude=(*self.recipe.audio.exclude, source))
        recipe = dataclasses.replace(self.recipe, audio=audio)
        heads = train_audio(recipe, self.text, self.checkpoints / source, 1e9, True, lambda _: None)
        assert heads is not None  # only a budget of minutes ends a training early
        for name, tensor in sorted(heads.state_dict().items()):
            self._digest.update(f"{source} {name}".encode() + tensor.numpy().tobytes())
        return heads

    def encode(self, items: Sequence[EvalItem], modality: str) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows: texts by the space, sounds from their cached features by other heads."""
        if modality == Modality.TEXT:
            return self.space.encode_text([item.content for item in items])
        tables = [read_features(Path(self.recipe.features), "audio", n, 1) for n in self.recipe.audio.sources]
        rows = np.full((len(items), self.space.embed_dim), np.nan, np.float32)
        for source in sorted({str(item.row["source"]) for item in items}):
            started = time.monotonic()
            mine = [k for k, item in enumerate(items) if item.row["source"] == source]
            heads = self.heads(source)
            with torch.inference_mode():
                rows[mine] = heads(*_features([items[k].id for k in mine], tables, heads.config.feature_dim)).numpy()
            print(f"{source}: {len(mine)} clips, {time.monotonic() - started:.0f} s", flush=True)
        return rows

    def fingerprints(self) -> Mapping[str, str]:
        """Return the digests of the text encoder and of all heads trained so far."""
        return {"text": self.space.fingerprints()["text"], "audio": self._digest.hexdigest()}


def _features(ids: Sequence[str], tables: Sequence[FeatureTable], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features and class scores of some items' plain views.

    Raises:
        ConfigError: If an item has none.
    """
    found = []
    for name in ids:
        table = next((t for t in tables if name in t.index), None)
        if table is None:
            raise ConfigError(f"{name}: no features; run: python -m training.align.features audio --views 1")
        row = table.index[name][0]
        found.append((table.features[row, :width], table.logits[row]))
    features, logits = (np.stack(part).astype(np.float32) for part in zip(*found, strict=True))
    return torch.from_numpy(features), torch.from_numpy(logits)


def without(suite: Suite, source: str) -> Suite:
    """Return the suite without a source: neither its clips nor what only they make known."""
    sets = {
        name: dataclasses.replace(entry, where_not={**entry.where_not, "source": source})
        for name, entry in suite.sets.items()
    }
    return dataclasses.replace(suite, sets=sets)


def covered(suite: Suite, recipe: Recipe) -> Suite:
    """Return the suite without clips whose concept training has from no other source: they test something else."""
    trained: dict[str, set[str]] = defaultdict(set)
    for name in recipe.audio.sources:
        for row in training_rows(recipe, name):
            trained[row["concept"]].add(row["source"])
    clips = select_all(suite, Path(recipe.corpora))["audio"]
    unknown = [item.id for item in clips if not trained[item.key] - {item.row["source"]}]
    asked = suite.sets["audio"]
    asked = dataclasses.replace(asked, where_not={**asked.where_not, "id": unknown})
    return dataclasses.replace(suite, sets={**suite.sets, "audio": asked})


def measure(recipe: Recipe, suite: Suite, checkpoints: Path) -> dict[str, Any]:
    """Return the report of a suite whose sounds are encoded with their source left out.

    Raises:
        ConfigError: If corpora, features or texts are missing.
    """
    left, corpora = LeaveOneOut(recipe, checkpoints), Path(recipe.corpora)
    suite = covered(suite, recipe)
    sets = select_all(suite, corpora)
    asked = len({item.key for item in sets["audio"]})
    print(f"{len(sets['audio'])} clips of {asked} concepts, among {len(sets['text'])} concepts", flush=True)
    result: SuiteResult = evaluate_suite(left.space, suite, corpora=corpora, encode=left.encode)
    result = dataclasses.replace(result, weights_hash=left.fingerprints())
    return report(result, commit=git_commit(suite.folder), corpora_splits=splits_digest(corpora))


def main() -> int:
    """Train, measure, write the report."""
    parser = argparse.ArgumentParser(description="Measure sounds of known concepts, every source left out in turn.")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="how heads are trained; sounds.toml by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--without", default="", metavar="SOURCE", help="leave a source out of the measurement")
    parser.add_argument("--checkpoints", type=Path, default=Path("build/runs/leave_one_out"))
    arguments = parser.parse_args()
    try:
        recipe, suite = load_recipe(arguments.recipe), load_suite(SUITE)
        suite = without(suite, arguments.without) if arguments.without else suite
        entry = measure(recipe, suite, arguments.checkpoints / recipe.name)
    except EmbedspaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.without:
        print("not written: this is for choosing")
    else:
        write_report(entry, arguments.out)
    metrics = entry["results"][0]["metrics"]
    print(", ".join(f"{name} {100 * metrics[name][0]:.1f}" for name in ("recall_at_1", "recall_at_5", "recall_at_10")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
