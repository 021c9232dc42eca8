"""Put a network that was trained apart, on the latents of a generator that ships, into that generator.

    python -m training.generators.ship build/runs/from_noise/generator training/recipes/generators/from_noise.toml

Weights and settings are copied; how it is sampled is what the recipe says now, for that needs no training. It becomes
the generator's default, the other families draw as before. Its recipe stands in recipe.json, with the one that made the
other parts under "before".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from embedspace.errors import WeightsError
from embedspace.files import write_text
from embedspace.generate.families.base import SAMPLING
from embedspace.train.generators.recipe import load_generator_recipe

__all__ = ["main", "ship"]

GENERATORS = Path("embedspace/weights/heads")


def ship(trained: Path, recipe: Path, family: str, generator: Path) -> None:
    """Copy a family from one generator's folder into another's.

    Raises:
        ConfigError: If the recipe is wrong.
        WeightsError: If the first has no such family, or its latents are not the second's.
    """
    config, new = (json.loads((folder / "config.json").read_text("utf-8")) for folder in (generator, trained))
    if family not in new["families"]:
        raise WeightsError(f"{trained}: no family {family!r} there; it has {', '.join(new['families'])}")
    for part in ("autoencoder.safetensors", "gallery.safetensors"):
        if (trained / part).read_bytes() != (generator / part).read_bytes():
            raise WeightsError(f"{trained}: its {part} is not that of {generator}; train it with latents = {generator}")
    loaded = load_generator_recipe(recipe)
    settings = dataclasses.asdict(getattr(loaded, loaded.kind).families[family].config)
    section: dict[str, Any] = {**new["families"][family], **{name: settings[name] for name in SAMPLING}}
    others = {name: own for name, own in config["families"].items() if name != family}
    config["families"] = {family: section, **others}
    recipes = [json.loads((folder / "recipe.json").read_text("utf-8")) for folder in (trained, generator)]
    (generator / f"{family}.safetensors").write_bytes((trained / f"{family}.safetensors").read_bytes())
    write_text(generator / "config.json", json.dumps(config, indent=1) + "\n")
    before = recipes[1].get("before", recipes[1])
    write_text(generator / "recipe.json", json.dumps({**recipes[0], "before": before}, indent=1) + "\n")


def main() -> None:
    """Ship a family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, metavar="FOLDER", help="the generator of a run")
    parser.add_argument("recipe", type=Path, metavar="RECIPE")
    parser.add_argument("--family", default="flow")
    parser.add_argument("--to", default="image", help="of which generator that ships")
    given = parser.parse_args()
    ship(given.trained, given.recipe, given.family, GENERATORS / given.to)
    print(GENERATORS / given.to)


if __name__ == "__main__":
    main()
