"""A catalog as tools of an assistant, over the Model Context Protocol: `embedspace mcp CATALOG`.

Source: https://modelcontextprotocol.io/specification/ by the official SDK (2.x), over standard input and output.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from embedspace import __version__
from embedspace.errors import EmbedspaceError, MissingExtraError
from embedspace.generate.targets import Target, options_of
from embedspace.integrations.collection import Asked, Collection
from embedspace.media.source import one_line

try:
    from mcp.server.mcpserver import Audio, Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
    from pydantic import BaseModel, ConfigDict, Field
except ImportError as error:
    raise MissingExtraError(f"mcp is not installed ({one_line(error)}): pip install 'embedspace[mcp]'") from error

__all__ = ["server"]

_INSTRUCTIONS = """\
One vector space for pictures, sounds, words and speech: anything finds anything.
{about}
`search` finds items by words, by other items, or by several with weights. `look` shows one item.{makes}
A probability says how likely a hit is what is meant; where good_match is false, nothing in the catalog fits: say so
instead of offering the hits."""

Result = TypeVar("Result")


class SearchTerm(BaseModel):
    """One term: either words, or the id of an item."""

    model_config = ConfigDict(extra="forbid")
    text: str | None = Field(None, max_length=20_000, description="Words, best in English. Never a path.")
    id: str | None = Field(None, max_length=64, description="Id of an item, from search")
    weight: float = Field(1.0, ge=-1000, le=1000, description="Below zero takes away")
    modality: str | None = Field(None, description="Which of an item with several: speech is what is said in it")


class FoundItem(BaseModel):
    """One hit."""

    id: str
    name: str
    uri: str
    kind: str
    modality: str
    probability: float | None = Field(description="That it is a match; null where the space is not calibrated")
    score: float = Field(description="Cosine")
    start: float | None = Field(description="Seconds, or characters of a text; null for a whole item")
    end: float | None
    text: str | None
    label: str | None
    metadata: dict[str, Any]


class Found(BaseModel):
    """What a search found, the best first."""

    hits: list[FoundItem]
    good_match: bool | None = Field(description="false: nothing fits; null: not known")
    notes: list[str]


Terms = Annotated[list[SearchTerm], Field(min_length=1, max_length=16)]


def server(collection: Collection) -> MCPServer:
    """Return a server of a collection's tools; its `run()` talks over standard input and output.

    Args:
        collection: What is searched, and what makes things.
    """
    targets = collection.targets
    makes = f" `generate` makes {_listed(targets)}; what ships makes small ones." if targets else ""
    made = MCPServer(
        "embedspace",
        title="embedspace",
        version=__version__,
        instructions=_INSTRUCTIONS.format(about=collection.describe(), makes=makes),
        log_level="WARNING",
    )
    looks = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    writes = ToolAnnotations(
        read_only_hint=collection.out is None, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    for tool, title, hints, structured in (
        (_search_tool(collection), "Search the catalog", looks, True),
        (_look_tool(collection), "Look at an item", looks, False),
        *([(_generate_tool(collection, targets), f"Make {_listed(targets)}", writes, False)] if targets else ()),
    ):
        made.add_tool(tool, title=title, annotations=hints, structured_output=structured)
    return made


def _search_tool(collection: Collection) -> Callable[..., Found]:
    def search(
        terms: Terms,
        to: Annotated[list[str] | None, Field(description="Modalities to find; all where left out")] = None,
        k: Annotated[int, Field(ge=1, le=50, description="Hits wanted")] = 10,
        where: Annotated[str | None, Field(max_length=2000, description="Filter, as licence = 'CC0-1.0'")] = None,
        min_probability: Annotated[float | None, Field(ge=0, le=1)] = None,
    ) -> Found:
        """Find pictures, sounds, speech and texts in the catalog by words, by items, or by several with weights."""
        options = {"to": to, "k": k, "where": where, "min_probability": min_probability}
        return Found(**_told(lambda: collection.search(_asked(terms), **options)))

    return search


def _look_tool(collection: Collection) -> Callable[..., list[Any]]:
    def look(id: Annotated[str, Field(max_length=64, description="From search")]) -> list[Any]:  # noqa: A002
        """Show an item: a small picture of it, its metadata, what is said in it, its neighbours in each modality."""
        facts, picture = _told(lambda: collection.look(id))
        return [facts, *([Image(data=picture, format="webp")] if picture is not None else [])]

    return look


def _generate_tool(collection: Collection, targets: Sequence[Target]) -> Callable[..., list[Any]]:
    def generate(
        terms: Terms,
        to: str,
        n: Annotated[int, Field(ge=1, le=4, description="How many")] = 1,
        seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0,
        force: Annotated[bool, Field(description="Also from what is unlike everything known")] = False,
        **settings: Any,  # noqa: ANN401 - of the targets' options
    ) -> list[Any]:
        things = _told(lambda: collection.make(_asked(terms), to, n, seed, force=force, **settings))
        content: list[Any] = []
        for thing in things:
            content.append(thing.facts)
            if thing.type.startswith("image/"):
                content.append(Image(data=thing.content, format=thing.type.partition("/")[2]))
            elif thing.type.startswith("audio/"):
                content.append(Audio(data=thing.content, format=thing.type.partition("/")[2]))
        return content

    generate.__doc__ = f"""Make {_listed(targets)} from words and items; the shipped generators make small ones.

    Each comes with the training items nearest to it; copy says that it is nearly one of them.
    """
    signature = inspect.signature(generate, eval_str=True)
    parameters = {name: one for name, one in signature.parameters.items() if name != "settings"}
    names = Field(description="What to make", json_schema_extra={"enum": [target.name for target in targets]})
    parameters["to"] = parameters["to"].replace(annotation=Annotated[str, names])
    for option in options_of(targets, remote=True):
        kind = option.field_type() | None
        parameters[option.name] = parameters["to"].replace(name=option.name, default=None, annotation=kind)
    generate.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    return generate


def _listed(targets: Sequence[Target]) -> str:
    """Return what can be made, as words: "pictures, sounds or captions"."""
    *others, last = [target.what for target in targets]
    return f"{', '.join(others)} or {last}" if others else last


def _asked(terms: Sequence[SearchTerm]) -> list[Asked]:
    return [Asked(term.text or "", term.id or "", term.weight, term.modality or "") for term in terms]


def _told(work: Callable[[], Result]) -> Result:
    """Do something; a mistake becomes one line that the assistant reads."""
    try:
        return work()
    except EmbedspaceError as error:
        raise ToolError(" ".join(str(error).split())) from error
