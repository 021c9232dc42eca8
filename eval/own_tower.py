"""A tower of one's own through a configuration and `embedspace train align`, measured on stamps that it never saw.

    python -m eval.own_tower                 # about 5 minutes of an idle core; rows of towers are kept under build/

Image towers are brought onto the shipped text encoder on the stamps' training half alone, and searched by the 281
captions of the test half (and the other way round):

- bundled: the frozen EfficientNet-Lite2 that ships, named in a recipe with its middle layers and the names of its
  classes, its projection a kernel regression (`RECIPE`). The positive control.
- shuffled: the same recipe, with the captions of the training pictures and the names of the classes shuffled. A
  negative control of the recipe.
- random: a frozen architecture of timm in open_clip's format, whose weights are random, and an MLP. A negative control
  of the tower.
- head: what the shipped pictures' head reaches with that one network and the same pictures. It also reads colours and
  the classifier's own weights. The yardstick.

What was tried before is chosen on the training half (`python -m training.attempts.own_tower`).
Needs the corpus of stamps (python -m training.corpora --only stamps). Writes eval/results/own_tower.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedspace.encoders.shipped.image_features import ImageFrontEnd, cropped
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.evaluate.intervals import bootstrap
from embedspace.evaluate.report import git_commit
from embedspace.files import replacing, write_text
from embedspace.media.image import load_image
from embedspace.space import DEFAULT_WEIGHTS, EmbeddingSpace
from embedspace.train.align import align
from embedspace.train.loop import FitProgress
from embedspace.train.ranks import target_ranks
from training.align.recipe import ImageRecipe, Recipe, TextRecipe
from training.align.stages.image import train_image
from training.corpora.manifest import CORPORA

FOLDER = Path("build/own-tower")
RESULTS = Path("eval/results")
LITE2 = "efficientnet_lite2"
SHUFFLED = {"manifest": "shuffled.jsonl", "names": "shuffled.json"}
STEPS = 700
"""As the shipped heads."""
BASE = """
features = "{features}"
[pairs]
manifests = ["{manifest}"]
captions = ["captions"]
validation = {validation}
[towers.words]
model = "embedspace:default"
modalities = ["text"]
[training]
steps = {steps}
batch_size = 320
evaluate_every = 100
[towers.photo]
model = "{model}"
modalities = ["image"]
"""
LAYERS = 'layers = ["stages.2", "stages.4", "stages.6"]\n'
"""The last stages at strides 8, 16 and 32."""
NAMES = 'classifier = "classifier"\nnames = "{names}"\n'
KERNEL = '[towers.photo.projections.image]\nkind = "kernel"\n'
MLP = "[towers.photo.projections.image]\nhidden_dim = 512\ndropout = 0.4\n"
RECIPE = BASE + LAYERS + NAMES + KERNEL
Row = dict[str, Any]


def stamps() -> tuple[list[Row], list[Row]]:
    """Return the training half's rows, and those of the test half whose caption is unique among the stamps."""
    rows = [json.loads(line) for line in (CORPORA / "stamps" / "manifest.jsonl").read_text("utf-8").splitlines()]
    test = [row for row in rows if row["split"] == "test" and row["extra"]["unique"]]
    return [row for row in rows if row["split"] == "train"], test


def write_manifest(rows: list[Row], path: Path, said: Sequence[int] | None = None) -> None:
    """Write rows as `train align` reads them: a file, captions, a split.

    Args:
        rows: Rows of the corpus.
        path: File to write.
        said: For each row the number of that whose captions it gets; its own by default.
    """
    said = range(len(rows)) if said is None else said
    kept = [
        {
            "id": row["id"],
            "path": str((CORPORA / row["path"]).resolve()),
            "captions": [rows[k]["captions"][0], rows[k]["concept"]],
            "split": row["split"],
        }
        for row, k in zip(rows, said, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def write_random_tower(folder: Path, seed: int = 0) -> str:
    """Write a small CLIP of random weights in open_clip's format, its image side an architecture of timm."""
    import open_clip
    from safetensors.torch import save_file

    vision = {"timm_model_name": "mobilenetv2_050", "timm_model_pretrained": False, "timm_pool": "avg",
              "timm_proj": "linear", "image_size": 128}  # fmt: skip
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    config = {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text}
    picture = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
    torch.manual_seed(seed)
    model = open_clip.model.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model_cfg": config, "preprocess_cfg": picture}
    (folder / "open_clip_config.json").write_text(json.dumps(about), "utf-8")
    save_file(
        {k: v.clone().contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return f"open_clip:local-dir:{folder.resolve()}"


def write_shuffled(rows: list[Row], folder: Path, seed: int) -> None:
    """Write the manifest with the captions of other rows, and the names of ImageNet's classes in another order."""
    random = np.random.default_rng(seed)
    write_manifest(rows, folder / "shuffled.jsonl", random.permutation(len(rows)).tolist())
    names = [[row.name, *row.synonyms] for row in imagenet_classes()]
    write_text(folder / "shuffled.json", json.dumps([names[k] for k in random.permutation(len(names))]) + "\n")


def own_tower(name: str, recipe: str, test: list[Row], seed: int, **values: str) -> dict[str, Any]:
    """Train a tower's projection by a recipe, open the space that comes out, and search the test half.

    Args:
        name: Name of the training.
        recipe: Text with fields to fill in.
        test: What is searched.
        seed: Seed of the training.
        values: Values of the recipe's fields, beyond the defaults.
    """
    filled = {"manifest": "stamps.jsonl", "names": "imagenet", "validation": "[]", "steps": str(STEPS), **values}
    path = FOLDER / f"{name}.toml"
    path.write_text(recipe.format(features=(FOLDER / "rows").resolve(), **filled), "utf-8")
    started = time.monotonic()
    report = align(path, out=FOLDER / f"{name}-{seed}", seed=seed, callback=_tell)
    assert report.folder is not None
    space = EmbeddingSpace.from_pretrained(report.folder)
    images = space.encode([CORPORA / row["path"] for row in test], modality="image")
    texts = space.encode([row["captions"][0] for row in test], modality="text")
    return {"pairs": report.pairs, **searched(images, texts), "seconds": round(time.monotonic() - started)}


def shipped_head(train: list[Row], test: list[Row], seed: int) -> dict[str, Any]:
    """Train the shipped pictures' head on one network and the same pictures, and search the test half."""
    started = time.monotonic()
    folder = FOLDER / "head"
    image = ImageRecipe((LITE2,), {"stamps": 1.0}, members=1, steps=STEPS)
    recipe = Recipe("own_tower", seed, corpora=str(CORPORA), features=str(folder), stages=("image",))
    recipe = dataclasses.replace(recipe, start=str(DEFAULT_WEIGHTS), text=TextRecipe(locked=True), image=image)
    _write_features([*train, *test], folder)
    section = EmbeddingSpace.from_pretrained().config["sections"]["text"]["head"]
    text = load_text_projection(section, DEFAULT_WEIGHTS)
    heads = train_image(recipe, text, folder / str(seed), 1e9, False, _tell)
    assert heads is not None
    stored = np.load(folder / "image" / "stamps.0.npz")
    place = {name: k for k, name in enumerate(stored["ids"].tolist())}
    rows = [place[row["id"]] for row in test]
    with torch.inference_mode():
        both = (torch.from_numpy(stored[name][rows].astype(np.float32)) for name in ("features", "logits"))
        images = heads(*both).numpy()
    texts = EmbeddingSpace.from_pretrained().encode([row["captions"][0] for row in test], modality="text")
    return {"pairs": len(train), **searched(images, texts), "seconds": round(time.monotonic() - started)}


def _write_features(rows: list[Row], folder: Path) -> None:
    """Write the head's features of pictures and texts as training reads them, once."""
    path = folder / "image" / "stamps.0.npz"
    if not path.is_file():
        front, features, logits = ImageFrontEnd((LITE2,)), [], []
        for row in rows:
            made = front([front.preprocess(cropped(load_image(CORPORA / row["path"], min_side=288)))])
            features.append(made[0].numpy().astype(np.float16))
            logits.append(made[1].numpy().astype(np.float16))
        _save(path, np.array([r["id"] for r in rows]), features=np.concatenate(features), logits=np.concatenate(logits))
    path = folder / "text" / "texts.npz"
    if not path.is_file():
        classes = json.loads((DEFAULT_WEIGHTS.parent / "imagenet_classes.json").read_text("utf-8"))
        names = [t for c in classes for t in (c["name"], *c["synonyms"][:2], *c["hypernyms"][:3])]
        texts = list(dict.fromkeys([*names, *(t for r in rows for t in (*r["captions"], *r["keywords"][:3]))]))
        backbone: Any = create_backbone("minilm_l6")
        with torch.inference_mode():
            parts = [[backbone.preprocess(t) for t in texts[k : k + 64]] for k in range(0, len(texts), 64)]
            made = torch.cat([backbone(part).normalized for part in parts])
        _save(path, np.array(texts), "texts", features=made.numpy().astype(np.float16))


def _save(path: Path, ids: np.ndarray, key: str = "ids", **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **{key: ids}, **arrays)


def searched(images: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
    """Return recalls in percent with 95% bootstrap intervals, both ways; item k's only answer is caption k."""
    found: dict[str, Any] = {"gallery": len(texts)}
    scores = torch.from_numpy(images @ texts.T)
    for direction, matrix in (("image → text", scores), ("text → image", scores.T.contiguous())):
        ranks = target_ranks(matrix, torch.arange(len(matrix))).numpy()
        for k in (1, 10):
            hits = (ranks <= k).astype(np.float64)
            low, high = np.percentile(bootstrap(hits[:, None], seed=0)[:, 0], (2.5, 97.5))
            found[f"{direction} R@{k}"] = [round(100 * float(x), 1) for x in (hits.mean(), low, high)]
    return found


def markdown(entry: dict[str, Any]) -> str:
    """Return the table."""
    names = [f"{direction} R@{k}" for direction in ("image → text", "text → image") for k in (1, 10)]
    lines = [
        "# own_tower",
        "",
        "A tower named in a recipe, its projection made by `embedspace train align` on the stamps' training half "
        f"({entry['rows']['bundled']['pairs']} pictures) onto the shipped text encoder; the test half is searched by "
        "picture and by caption. How the recipe was chosen: attempts/own_tower.csv, on the training half alone.",
        "",
        f"| tower | gallery | {' | '.join(names)} |",
        f"|---|---|{'---|' * len(names)}",
    ]
    for name, what in LABELS.items():
        row = entry["rows"][name]
        cells = [f"{v:.1f} [{low:.0f}, {high:.0f}]" for v, low, high in (row[n] for n in names)]
        lines.append(f"| {what} | {row['gallery']} | {' | '.join(cells)} |")
    chance = {k: 100 * k / entry["rows"]["bundled"]["gallery"] for k in (1, 10)}
    lines.append(f"| chance | | {' | '.join(f'{chance[k]:.1f}' for _ in range(2) for k in (1, 10))} |")
    about = f"Commit {entry['commit']}, seed {entry['seed']}; {STEPS} steps where steps are made."
    lines += ["", f"Percent; [95% bootstrap interval over queries]. {about} Made by", ""]
    lines += ["`python -m eval.own_tower`; ties count against the answer."]
    return "\n".join(lines) + "\n"


LABELS = {
    "bundled": "own tower: frozen EfficientNet-Lite2 with layers and names of classes (positive control)",
    "head": "the shipped pictures' head on that one network, middle layers, colours and class names included",
    "shuffled": "the recipe of the first row, captions and names of classes shuffled (negative control)",
    "random": "own tower: frozen MobileNetV2 of timm with random weights, an MLP (negative control)",
}


def _tell(progress: FitProgress) -> None:
    said = " ".join(f"{name} {value:.3g}" for name, value in progress.scalars.items())
    print(f"{progress.stage} {progress.step}/{progress.steps} {progress.seconds:.0f} s {said}", flush=True)


def main() -> None:
    """Measure all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = stamps()
    write_manifest(train, FOLDER / "stamps.jsonl")
    write_shuffled(train, FOLDER, given.seed)
    rows = {
        "bundled": own_tower("bundled", RECIPE, test, given.seed, model=LITE2),
        "shuffled": own_tower("shuffled", RECIPE, test, given.seed, model=LITE2, **SHUFFLED),
        "random": own_tower("random", BASE + MLP, test, given.seed, model=write_random_tower(FOLDER / "random-clip")),
        "head": shipped_head(train, test, given.seed),
    }
    entry = {"commit": git_commit(), "seed": given.seed, "steps": STEPS, "rows": rows}
    write_text(given.out / "own_tower.json", json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    write_text(given.out / "own_tower.md", markdown(entry))
    print(markdown(entry))


if __name__ == "__main__":
    main()
