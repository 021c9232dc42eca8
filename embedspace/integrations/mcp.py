"""A catalog as tools of an assistant, over the Model Context Protocol: `embedspace mcp CATALOG`.

Source: https://modelcontextprotocol.io/specification/ by the official SDK (2.x), over standard input and output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from embedspace import __version__
from embedspace.errors import EmbedspaceError, MissingExtraError
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
`search` finds items by words, by other items, or by several with weights. `look` shows one item. `generate` makes a
small picture, a sound, a caption or speech. A probability says how likely a hit is what is meant; where good_match is
false, nothing in the catalog fits: say so instead of offering the hits."""

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
Target = Literal["image", "audio", "text", "speech"]


def server(collection: Collection) -> MCPServer:
    """Return a server of a collection's tools; its `run()` talks over standard input and output.

    Args:
        collection: What is searched, and what makes things.
    """
    made = MCPServer(
        "embedspace",
        title="embedspace",
        version=__version__,
        instructions=_INSTRUCTIONS.format(about=collection.describe()),
        log_level="WARNING",
    )
    looks = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    makes = ToolAnnotations(
        read_only_hint=collection.out is None, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    for tool, title, hints, structured in (
        (_search_tool(collection), "Search the catalog", looks, True),
        (_look_tool(collection), "Look at an item", looks, False),
        (_generate_tool(collection), "Make a picture, sound, text or speech", makes, False),
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


def _generate_tool(collection: Collection) -> Callable[..., list[Any]]:
    def generate(
        terms: Terms,
        to: Annotated[Target, Field(description="What to make")],
        n: Annotated[int, Field(ge=1, le=4, description="How many")] = 1,
        seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0,
        guidance_scale: Annotated[float | None, Field(ge=0, le=30)] = None,
        num_steps: Annotated[int | None, Field(ge=1, le=200)] = None,
        force: Annotated[bool, Field(description="Also from what is unlike everything known")] = False,
    ) -> list[Any]:
        """Make a small picture (96 x 96), a sound of four seconds, a caption, or speech, from words and items.

        Each comes with the training items nearest to it; copy says that it is nearly one of them.
        """
        request = {"num_samples": n, "seed": seed, "guidance_scale": guidance_scale, "num_steps": num_steps}
        things = _told(lambda: collection.make(_asked(terms), to, force=force, **request))
        content: list[Any] = []
        for thing in things:
            content.append(thing.facts)
            if thing.type.startswith("image/"):
                content.append(Image(data=thing.content, format=thing.type.partition("/")[2]))
            elif thing.type.startswith("audio/"):
                content.append(Audio(data=thing.content, format=thing.type.partition("/")[2]))
        return content

    return generate


def _asked(terms: Sequence[SearchTerm]) -> list[Asked]:
    return [Asked(term.text or "", term.id or "", term.weight, term.modality or "") for term in terms]


def _told(work: Callable[[], Result]) -> Result:
    """Do something; a mistake becomes one line that the assistant reads."""
    try:
        return work()
    except EmbedspaceError as error:
        raise ToolError(" ".join(str(error).split())) from error
