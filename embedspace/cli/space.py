"""`embedspace space`: spaces by name, composed of towers, checked, and kept on a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedspace.cli.shared.options import Device, Download, Json, Quiet
from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["app", "build", "check", "info", "list_spaces", "pull", "push"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See, compose, check and share spaces.")

SpaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPACE", help="A folder, a TOML file of towers, a preset, or `default`: the space that ships."
    ),
]
_COMMAND = "embedspace index FOLDER --catalog my.catalog --space {name} --download"


@app.callback()
def group() -> None:
    """See, compose, check and share spaces."""


@app.command(name="list")
def list_spaces(json: Json = False) -> None:
    """List the spaces that are known by name: what they are made of, their size, and how to use them."""
    from embedspace.cli.shared.output import print_json
    from embedspace.space.open import PRESETS, preset_names
    from embedspace.space.recipe import read_recipe

    records = [
        {"name": name, "command": _COMMAND.format(name=name), **read_recipe(PRESETS / f"{name}.toml").about}
        for name in preset_names()
    ]
    if json:
        for record in records:
            print_json(record)
        return
    print("default: the space that ships; small, offline, nothing to download\n")
    for record in records:
        print(f"{record['name']}: {record['title']}")
        print(f"  download  {record['download']}")
        for tower, licence in record["licences"].items():
            print(f"  licence   {tower}: {licence}")
        for what, figure in record["published"].items():
            print(f"  published {what}: {figure}")
        print(f"  use       {record['command']}\n")


@app.command()
def info(space: SpaceArgument, json: Json = False) -> None:
    """Show what a space is made of, without loading any network: modalities, towers, preprocessing, connectors."""
    from embedspace.cli.shared.output import print_json

    record = _recipe_record(space) or _space_record(space)
    if json:
        print_json(record)
        return
    for line in _lines(record):
        print(line)


def _recipe_record(name: str) -> dict[str, Any] | None:
    """Return what a preset or a TOML file says; None for a folder."""
    from embedspace.space.open import PRESETS, preset_names
    from embedspace.space.recipe import read_recipe

    if name.endswith(".toml"):
        return {"space": name, **read_recipe(Path(name)).plain()}
    if not Path(name).exists() and name in preset_names():
        return {"space": name, "command": _COMMAND.format(name=name), **read_recipe(PRESETS / f"{name}.toml").plain()}
    return None


def _space_record(name: str) -> dict[str, Any]:
    """Return what a space's folder says."""
    import json

    from embedspace.cli.shared.space import load_space

    space = load_space(name)
    sections: Mapping[str, Any] = space.config["sections"]
    towers: Mapping[str, Any] = space.config.get("towers", {})
    made = space.folder / "composed.json"
    reports = json.loads(made.read_text("utf-8")).get("connectors", {}) if made.is_file() else {}
    kept = ("name", "revision", "digest", "preprocessing")
    return {
        "space": str(space.folder),
        "embed_dim": space.embed_dim,
        "probabilities": bool(space.calibration.pairs),
        "modalities": {
            str(modality): {
                "type": sections[modality].get("type", f"shipped.{modality}"),
                **{
                    key: sections[modality][key]
                    for key in ("tower", "projection", "connector", "correction")
                    if key in sections[modality]
                },
                "fingerprint": space.fingerprints()[modality],
            }
            for modality in map(str, space.modalities)
        },
        "towers": {tower: {key: stored.get(key) for key in kept} for tower, stored in towers.items()},
        "connectors": {tower: {**report, "centred": _centred(tower, report)} for tower, report in reports.items()},
    }


def _lines(record: Mapping[str, Any], indent: str = "") -> list[str]:
    """Return a record as indented lines for people."""
    lines: list[str] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")] if value else []
        elif value not in (None, "", [], ()):
            shown = ", ".join(map(_shown, value)) if isinstance(value, list | tuple) else _shown(value)
            lines.append(f"{indent}{key}: {shown}")
    return lines


def _shown(value: object) -> str:
    """Return a value for people: numbers with at most four digits that count."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def check(space: SpaceArgument, json: Json = False, device: Device = "cpu", download: Download = False) -> None:
    """Load every encoder, encode a few built-in samples, and show the gap of each modality to the texts.

    The samples are coloured shapes, tones and phrases: they show that a space works, not how good it is. The exit code
    is 1 if an encoder fails.
    """
    import dataclasses

    from embedspace.cli.shared.output import print_json, print_table
    from embedspace.cli.shared.space import load_space
    from embedspace.evaluate.check import check_space

    opened = load_space(space, device, download)
    found = check_space(opened)
    reports = _connector_reports(opened)
    if json:
        print_json({"modalities": [dataclasses.asdict(one) for one in found], "connectors": reports})
    else:
        rows = [
            [one.modality, _number(one.gap), _number(one.spread), one.problem or ("ok" if one.samples else "loads")]
            for one in found
        ]
        print_table(["modality", "gap", "spread", ""], rows, right=[1, 2])
        for tower, report in reports.items():
            print(f"connector {tower}: {_recall(report)}")
    if any(one.problem for one in found):
        raise typer.Exit(1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _connector_reports(space: EmbeddingSpace) -> dict[str, Any]:
    """Return tower -> the report of its connector's fit, as the space's folder keeps it."""
    import json

    made = space.folder / "composed.json"
    if not made.is_file():
        return {}
    return {name: report for name, report in json.loads(made.read_text("utf-8"))["connectors"].items() if report}


def _centred(tower: str, report: Mapping[str, Any]) -> str:
    """Say what a connector subtracts from media."""
    counted = ", ".join(f"{count} {modality}" for modality, count in report.get("media", {}).items() if count)
    if counted:
        return f"by the mean of unlabelled media ({counted})"
    if not report:
        return "as the fitted connector says"
    return f"like texts: nothing says where media lie; `embedspace space build ... --centre {tower}=FOLDER` does better"


def _recall(report: Mapping[str, Any]) -> str:
    return (
        f"text to text R@10 {100 * report['recall_at_10']:.1f}% of {report['held_out']} held-out texts "
        f"(chance {100 * report['chance_at_10']:.1f}%), {report['method']} on {report['texts']} texts"
    )


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(metavar="TOML", help="A TOML file of towers, or a preset.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the space goes; must not exist.")],
    copy_towers: Annotated[
        bool, typer.Option("--copy-towers", help="Copy the towers' weights too, so that the folder needs nothing else.")
    ] = False,
    centre: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOWER=FOLDER",
            help="Unlabelled media whose mean a tower's connector subtracts, such as clap=~/sounds; repeatable.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Compose a space of pretrained towers: connectors are fitted on texts alone, and their recall is shown."""
    from embedspace.cli.shared.output import note, print_json
    from embedspace.space import EmbeddingSpace
    from embedspace.space.open import PRESETS, preset_names
    from embedspace.space.recipe import read_recipe, with_centres

    if out.exists():
        raise InputError(f"{out}: something is there already; give --out the name of a new folder")
    centres = _centres(centre or [])
    path = PRESETS / f"{recipe}.toml" if recipe in preset_names() and not Path(recipe).exists() else Path(recipe)
    told = None if quiet else note
    wanted = with_centres(read_recipe(path), centres)
    space = EmbeddingSpace.compose(wanted, download=download, device=device, callback=told)
    space.save(out, copy_towers=copy_towers)
    reports = _connector_reports(space)
    if json:
        print_json({"space": str(out), "embed_dim": space.embed_dim, "connectors": reports})
        return
    print(f"{out}: {', '.join(map(str, space.modalities))}; {space.embed_dim} dimensions")
    for tower, report in reports.items():
        print(f"connector {tower}: {_recall(report)}")


def _centres(given: list[str]) -> dict[str, str]:
    """Return tower -> folder or pattern of media, absolute: a recipe's own paths begin at its folder."""
    centres: dict[str, str] = {}
    for one in given:
        tower, _, place = one.partition("=")
        if not tower or not place:
            raise InputError(f"--centre {one}: write a tower and a folder of its media, such as clap=~/sounds")
        centres[tower] = str(Path(place).expanduser().absolute())
    return centres


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A space's folder.")],
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="organisation/name on the Hugging Face hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; by default it is private.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option("--tag", help="A name for this state, for `space pull --revision`.")
    ] = None,
) -> None:
    """Upload a space's folder to a repository of the Hugging Face hub."""
    from embedspace.integrations.hub import push_space

    print(push_space(folder, repository, private=not public, tag=tag))


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="organisation/name on the Hugging Face hub.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the space goes; must not exist.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit.")] = None,
    download: Download = False,
) -> None:
    """Copy a space from a repository of the hub: from the cache on this machine, with --download from the network."""
    from embedspace.integrations.hub import pull_space

    space = pull_space(repository, out, revision=revision, download=download)
    print(f"{out}: {', '.join(map(str, space.modalities))}; {space.embed_dim} dimensions")
