"""What a family is told beside a vector: a style, and a map of what is drawn where."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from embedspace.errors import ArgumentError, ConfigError, MediaError
from embedspace.generate.base import Request, request_of
from embedspace.generate.conditioning import Condition
from embedspace.generate.drawing import drawing_of
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.families.flow import FlowConfig, FlowFamily, flow_loss
from embedspace.generate.families.registry import family_of
from embedspace.generate.latents.maps import MAP_CHANNELS, MAP_KINDS, map_of, to_cells
from embedspace.train.generators.autoencoder import MediaSet
from embedspace.train.generators.latents import Latents, _maps_of
from embedspace.train.generators.recipe import FamilyRecipe, ImageGeneratorRecipe
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator

STYLES = ("ink", "paint")


def _square(side: int = 32) -> np.ndarray:
    picture = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(picture).rectangle((8, 8, 23, 23), fill="navy")
    return np.asarray(picture)


def test_maps_show_areas_borders_and_changes() -> None:
    two = _square().copy()
    two[8:24, 16:24] = (200, 40, 40)
    pictures = torch.from_numpy(two).permute(2, 0, 1)[None]
    area, border, changes = (map_of(pictures, kind)[0] for kind in MAP_KINDS)
    assert int(area.sum()) == 16 * 16
    assert bool(border[8, 12]) and not bool(border[15, 12]) and bool((border <= area).all())
    assert bool(changes[15, 15]) and not bool(border[15, 15])  # where the colours meet
    assert not bool(map_of(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8), "edges").any())


def test_cells_keep_every_pixel_of_a_map() -> None:
    drawn = torch.rand(2, 32, 48, generator=torch.Generator().manual_seed(0)) < 0.3
    cells = to_cells(drawn)
    assert cells.shape == (2, MAP_CHANNELS, 4, 6)
    assert torch.equal(torch.nn.functional.pixel_shuffle(cells, 8)[:, 0] > 0, drawn)
    assert set(cells.unique().tolist()) == {-1.0, 1.0}


def test_dark_is_drawn_and_transparent_is_not(tmp_path: Path) -> None:
    outline = Image.new("RGBA", (600, 300), (0, 0, 0, 0))
    ImageDraw.Draw(outline).line((20, 150, 580, 150), fill=(0, 0, 0, 255), width=3)
    outline.save(tmp_path / "outline.png")
    drawing = drawing_of(tmp_path / "outline.png")
    assert drawing.about["map"] == "outline.png" and len(drawing.about["map_sha256"]) == 64
    padded = drawing.padded(96)
    assert padded.shape == (96, 96)
    assert padded[44:52].any(axis=0)[6:90].all()  # three pixels of 600 are half a pixel of 96, and stay
    assert not padded[:40].any() and not padded[56:].any()


@pytest.mark.parametrize(("level", "said"), [(255, "nothing is drawn in it"), (0, "all of it is dark")])
def test_a_map_without_anything_is_refused(tmp_path: Path, level: int, said: str) -> None:
    Image.new("L", (20, 20), level).save(tmp_path / "map.png")
    with pytest.raises(ArgumentError, match=rf"^map map\.png: {said}"):
        request_of({"map": str(tmp_path / "map.png")})
    (tmp_path / "map.txt").write_text("a cat")
    with pytest.raises(MediaError, match=r"map\.txt"):
        request_of({"map": str(tmp_path / "map.txt")})


def _flow(**settings: Any) -> tuple[FlowConfig, torch.nn.Module]:
    torch.manual_seed(0)
    config = FlowConfig(neighbours=0, channels=16, multiples=(1,), blocks=1, **settings)
    return config, FlowFamily().build(config, (2, 4, 4), 8)


def _data(rows: int, generator: torch.Generator) -> tuple[torch.Tensor, Condition]:
    """Latents whose first channel is the style and whose second is the map's."""
    style = torch.randint(1, 3, (rows,), generator=generator)
    drawn = torch.rand(rows, 32, 32, generator=generator) < torch.rand(rows, 1, 1, generator=generator)
    cells = to_cells(drawn)
    latents = torch.stack([(2.0 * style - 3)[:, None, None].expand(-1, 4, 4), 2 * cells.mean(dim=1)], dim=1)
    return latents, Condition(torch.ones(rows, 8) / 8**0.5, torch.zeros(rows), None, style, cells)


def test_a_flow_follows_the_style_and_the_map_that_it_is_told() -> None:
    _, network = _flow(styles=STYLES, maps=1.0)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(250):
        loss = flow_loss(network, *_data(32, generator), generator)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    wanted, condition = _data(8, torch.Generator().manual_seed(1))
    sources = [torch.Generator().manual_seed(k) for k in range(8)]
    made = FlowFamily().sample(network, condition, sources, SampleOptions(8))
    assert torch.equal(made[:, 0].mean(dim=(1, 2)) > 0, condition.style == 2)
    told = torch.corrcoef(torch.stack([made[:, 1].flatten(), wanted[:, 1].flatten()]))[0, 1]
    assert float(told) > 0.9
    again = [torch.Generator().manual_seed(k) for k in range(8)]
    bare = Condition(condition.vector, condition.sigma)
    other = FlowFamily().sample(network, bare, again, SampleOptions(8))
    assert not torch.allclose(made, other)


def test_what_is_dropped_says_neither_style_nor_map() -> None:
    _, condition = _data(3, torch.Generator().manual_seed(0))
    kept = condition.drop_rows(torch.tensor([False, True, False]))
    assert kept.style is not None and kept.map is not None and condition.style is not None
    assert kept.style.tolist() == [int(condition.style[0]), 0, int(condition.style[2])]
    assert not bool(kept.map[1].any()) and bool(kept.map[0].any())
    gone = condition.dropped()
    assert gone.style is not None and not bool(gone.style.any())
    some = condition.rows(torch.tensor([2]))
    assert some.style is not None and some.style.tolist() == [int(condition.style[2])]


def test_contrast_takes_off_the_error_against_others_where_something_is_asked() -> None:
    _, network = _flow()
    latents = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    condition = Condition(torch.ones(4, 8), torch.zeros(4))
    losses = [
        float(flow_loss(network.requires_grad_(False), latents, one, torch.Generator().manual_seed(0), contrast=weight))
        for one, weight in ((condition, 0.0), (condition, 0.5), (condition.dropped(), 0.5))
    ]
    # a new network says nothing: its error against another's velocity is as large as against its own
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def _space(folder: Path, **settings: Any) -> SpaceWithGenerators:
    own = write_latent_generator(folder / "heads", "image")
    about = json.loads((own / "config.json").read_text())
    if settings:
        from embedspace.encoders.base import save_tensors

        about["families"]["flow"] |= settings
        config = FlowConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in about["families"]["flow"].items()})
        torch.manual_seed(0)
        module = family_of("flow").build(config, (2, 2, 2), len(vector_of(WORDS[0])))
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        save_tensors(module, own / "flow.safetensors")
        (own / "config.json").write_text(json.dumps(about))
    return SpaceWithGenerators(folder)


def _made(space: SpaceWithGenerators, request: Request) -> Any:
    generator = space.generators["image"]
    generator.check(request)
    return generator.generate(vector_of(WORDS[0])[None], np.zeros(1, np.float32), request)[0][0]


def test_a_generator_takes_both(tmp_path: Path) -> None:
    space = _space(tmp_path, styles=list(STYLES), maps=0.5)
    drawing = drawing_of(_square())
    plain = _made(space, Request())
    for request in (Request(style="paint"), Request(style="ink"), Request(drawing=drawing)):
        assert not np.array_equal(_made(space, request).content, plain.content)
    assert not np.array_equal(_made(space, Request(style="paint")).content, _made(space, Request(style="ink")).content)
    assert Request(style="ink", drawing=drawing).asked["style"] == "ink"
    assert Request(drawing=drawing).asked["map_sha256"] == drawing.about["map_sha256"]


def test_what_a_generator_was_not_told_in_training_is_refused(tmp_path: Path) -> None:
    drawing = drawing_of(_square())
    told = _space(tmp_path / "told", styles=list(STYLES))
    with pytest.raises(ArgumentError, match=r"^style 'oils': the family 'flow' was trained on the styles ink, paint$"):
        _made(told, Request(style="oils"))
    with pytest.raises(ArgumentError, match=r"^map the family 'flow' was trained without maps"):
        _made(told, Request(drawing=drawing))
    with pytest.raises(ArgumentError, match=r"^style ink: the family 'vae' has no styles; families that do: flow$"):
        _made(told, Request(style="ink", family="vae"))
    with pytest.raises(ArgumentError, match=r"^style 'ink': .* trained on the styles none; name some in the recipe"):
        _made(_space(tmp_path / "bare"), Request(style="ink"))


def _items() -> MediaSet:
    media = torch.from_numpy(np.stack([_square(), _square()[:, ::-1].copy()])).permute(0, 3, 1, 2).contiguous()
    return MediaSet(media, ["ink/a", "oils/b"], ["a", "b"], torch.eye(2, 8), torch.ones(2))


def test_training_tells_an_item_s_source_and_its_own_map() -> None:
    media = _items()
    asymmetric = media.media[:1].clone()
    asymmetric[..., :12] = 255  # what is drawn leans to the right
    media = MediaSet(torch.cat([asymmetric, media.media[1:]]), *_rest(media))
    recipe = ImageGeneratorRecipe(sources={"ink": 1.0, "oils": 1.0}, families={"flow": _recipe("flow", maps=1.0)})
    maps = _maps_of(recipe, media)
    near: Any = types.SimpleNamespace()
    views = torch.zeros(2, 2, 2, 4, 4)
    views[1] = 1
    latents = Latents(media, media, views, None, near, *(torch.ones(2, dtype=torch.long),) * 3, maps)
    config = FlowConfig(neighbours=0, drop=0.0, styles=("ink",), drop_style=0.0, maps=1.0, batch_size=64)
    drawn, condition = latents.draw(config, torch.Generator().manual_seed(0))
    assert condition.style is not None and condition.map is not None
    own = condition.vector.argmax(dim=1) == 0
    assert set(condition.style.tolist()) == {0, 1}
    whole = torch.nn.functional.pixel_shuffle(condition.map, 8)[:, 0] > 0
    mirrored = drawn.mean(dim=(1, 2, 3)) > 0.5
    for row in range(64):
        if condition.style[row] == 1:
            right = whole[row, :, 16:].sum() > whole[row, :, :16].sum()
            assert bool(right) != bool(mirrored[row])
    assert bool(own.any())


def _rest(media: MediaSet) -> tuple[Any, ...]:
    return media.items, media.captions, media.keys, media.weights


def _recipe(name: str, **settings: Any) -> FamilyRecipe:
    return FamilyRecipe(name, family_of(name).Config(**settings))


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("vae", {"styles": ("ink",)}, "families.vae.styles: vae cannot be told any; flow can"),
        ("gan", {"maps": 0.1}, "families.gan.maps: gan cannot be told any; flow can"),
        ("flow", {"styles": ("chalk",)}, "families.flow.styles: 'chalk' is none of the recipe's sources"),
    ],
)
def test_a_recipe_that_tells_a_family_what_it_cannot_take_is_refused(family: str, settings: Any, said: str) -> None:
    recipe = ImageGeneratorRecipe(sources={"ink": 1.0}, families={family: _recipe(family, **settings)})
    with pytest.raises(ConfigError, match=re.escape(said)):
        _maps_of(recipe, _items())


def test_maps_are_of_pictures() -> None:
    recipe = ImageGeneratorRecipe(sources={"ink": 1.0}, families={"flow": _recipe("flow", maps=0.1)})
    sounds = MediaSet(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), ["ink/a"], ["a"], torch.eye(1, 8), torch.ones(1))
    with pytest.raises(ConfigError, match="maps are of pictures"):
        _maps_of(recipe, sounds)
