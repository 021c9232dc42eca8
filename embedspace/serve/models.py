"""What is asked and what is answered, as JSON. The page and every other client follow these."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from embedspace.generate.targets import options_of, target_names, targets

__all__ = [
    "CatalogAnswer",
    "FailureAnswer",
    "FieldAnswer",
    "FieldValue",
    "FileAnswer",
    "GenerateRequest",
    "HitAnswer",
    "ItemAnswer",
    "JobAnswer",
    "MapAnswer",
    "MapPoint",
    "NameAnswer",
    "OptionAnswer",
    "QueryAnswer",
    "SearchAnswer",
    "SearchRequest",
    "SegmentAnswer",
    "SessionRequest",
    "TargetAnswer",
    "TermAnswer",
    "TermRequest",
]

_TEXT = 20_000
_WEIGHT = 1000.0


class Request(BaseModel):
    """A request: what is not known is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class TermRequest(Request):
    """One term of a query: words, an uploaded medium, or an item of the catalog."""

    text: Annotated[str, Field(min_length=1, max_length=_TEXT)] | None = Field(None, description="Words, never a path")
    ref: str | None = Field(None, max_length=64, description="From POST /api/queries")
    id: str | None = Field(None, max_length=64, description="Of an item of the catalog")
    weight: float = Field(1.0, ge=-_WEIGHT, le=_WEIGHT, description="Below zero takes away")
    as_: str | None = Field(None, alias="as", max_length=64, description="Which modality of an item with several")

    @model_validator(mode="after")
    def _one(self) -> TermRequest:
        given = [name for name in ("text", "ref", "id") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a term has one of text, ref and id; got {' and '.join(given) or 'none'}")
        if self.text is not None and not self.text.strip():
            raise ValueError("text is empty; give words")
        if self.weight == 0.0:
            raise ValueError("a weight of 0 says nothing; leave the term out")
        return self


class SearchRequest(Request):
    """A search."""

    terms: list[TermRequest] = Field(min_length=1, max_length=16)
    to: str | list[str] | None = Field(None, description="Only hits of this modality, or these")
    by: Literal["voice"] | None = Field(
        None, description="voice: who speaks in the terms' recordings; ask people before you search for them"
    )
    k: int = Field(12, ge=1, le=200, description="Hits; of each modality where grouped")
    where: Annotated[str, Field(max_length=_TEXT)] | None = Field(
        None, description="Filter, as `embedspace search --where`"
    )
    min_probability: float | None = Field(None, ge=0.0, le=1.0)
    grouped: bool = Field(False, description="Answer by modality as well")
    prepare: int = Field(
        0,
        ge=0,
        le=48,
        description="Make thumbnails and waveforms of so many first hits at once, for who shows them",
    )

    @field_validator("to")
    @classmethod
    def _some(cls, to: str | list[str] | None) -> str | list[str] | None:
        return to or None

    @model_validator(mode="after")
    def _voices(self) -> Self:
        if self.by is not None:
            if self.to or any(term.text is not None or term.as_ for term in self.terms):
                raise ValueError(
                    "by says what is searched with and for: give refs or ids of recordings, without as and to"
                )
            self.to = self.by
            self.terms = [term.model_copy(update={"as_": self.by}) for term in self.terms]
        return self

    @field_validator("where")
    @classmethod
    def _filter(cls, where: str | None) -> str | None:
        return where if where and where.strip() else None


class HitAnswer(BaseModel):
    """One item that answers a query, by its best segment."""

    id: str
    rank: int
    uri: str
    name: str = Field(description="Last part of the uri")
    kind: str
    modality: str = Field(description="Of the segment that matched")
    probability: float | None = Field(description="That it is a match; null where the space was not calibrated for it")
    score: float = Field(description="Cosine")
    start: float | None = Field(description="Seconds, or characters of a text")
    end: float | None
    label: str = Field(description="Name of the field that matched")
    text: str | None
    marks: list[tuple[int, int]] = Field(description="Where words of the query stand in text")
    metadata: dict[str, Any]
    thumbnail: str | None
    waveform: str | None
    media: str | None = Field(description="The original; null where there is no file")


class TermAnswer(BaseModel):
    """What became of a term."""

    label: str
    kind: str = Field(description="text, ref or id")
    weight: float
    as_: str = Field(serialization_alias="as", description="Which modality it was taken as")


class SearchAnswer(BaseModel):
    """Hits, the most probable first."""

    hits: list[HitAnswer]
    groups: dict[str, list[HitAnswer]] | None
    terms: list[TermAnswer]
    good_match: bool | None = Field(description="Whether any hit is likely enough; null where that is not known")
    notes: list[str] = Field(description="Remarks for people")
    took_ms: float
    revision: int = Field(description="Of the catalog")


class NameAnswer(BaseModel):
    """What something may be called."""

    name: str
    probability: float | None


class QueryAnswer(BaseModel):
    """A medium that can be searched with."""

    ref: str
    kind: str
    modalities: list[str] = Field(description="What it can be taken as, the default first")
    names: list[NameAnswer]
    duration: float | None = Field(description="Seconds")
    expires_in: int = Field(description="Seconds")


class FileAnswer(BaseModel):
    """A picture or a sound that can be edited."""

    ref: str
    kind: str
    width: int | None = Field(None, description="Pixels")
    height: int | None = None
    duration: float | None = Field(None, description="Seconds")
    expires_in: int = Field(description="Seconds")


class SegmentAnswer(BaseModel):
    """One segment of an item."""

    modality: str
    start: float | None
    end: float | None
    text: str
    label: str


class ItemAnswer(BaseModel):
    """One item."""

    id: str
    uri: str
    uris: list[str]
    name: str
    kind: str
    metadata: dict[str, Any]
    size: int
    modified: float = Field(description="Seconds since 1970")
    segments: list[SegmentAnswer]
    neighbours: dict[str, list[HitAnswer]] = Field(description="Modality -> the most similar items")
    thumbnail: str | None
    waveform: str | None
    preview: str | None
    media: str | None


class FieldValue(BaseModel):
    """A value of a field and how often it occurs."""

    value: str
    count: int


class FieldAnswer(BaseModel):
    """A field that filters can name."""

    name: str
    kind: Literal["text", "number", "time"]
    count: int
    values: list[FieldValue] = []
    min: float | str | None = None
    max: float | str | None = None


class FailureAnswer(BaseModel):
    """A file that could not be indexed."""

    uri: str
    reason: str


class OptionAnswer(BaseModel):
    """An option of a target, as a request names it."""

    key: str
    type: Literal["int", "float", "str"]
    least: float | None
    most: float | None
    help: str
    choices: list[str] = Field(description="What this server's generator knows; empty where that is not a list")
    file: bool = Field(description="Its value is the ref of a file that was sent to /api/files, or words about one")


class TargetAnswer(BaseModel):
    """Something that can be made here."""

    name: str
    what: str = Field(description="Its samples, in the plural")
    content: Literal["image", "audio", "text"] = Field(description="What a sample holds")
    options: list[OptionAnswer]


class CatalogAnswer(BaseModel):
    """The catalog at a glance."""

    name: str
    items: int
    counts: dict[str, int] = Field(description="Modality -> items that have it")
    fields: list[FieldAnswer]
    failures: list[FailureAnswer]
    failed: int = Field(description="How many failures there are; the first are listed")
    revision: int
    fingerprint: str
    calibrated: bool
    query_modalities: list[str]
    generates: list[str] = Field(description="Names of the targets")
    targets: list[TargetAnswer]
    token_required: bool
    watching: list[str]


class MapPoint(BaseModel):
    """One item on the map."""

    id: str
    x: float
    y: float
    modality: str
    label: str


class MapAnswer(BaseModel):
    """The map of the space; while it is computed there are no points."""

    state: Literal["ready", "computing", "failed"]
    points: list[MapPoint]
    method: str
    revision: int
    of: int = Field(description="Items that the points stand for")


def _with_options(schema: dict[str, Any]) -> None:
    """Describe in a request's schema what can be made and each option of it, those of other distributions included."""
    schema["properties"]["to"]["enum"] = target_names()
    for option in options_of(targets()):
        schema["properties"][option.key] = {"default": None, **TypeAdapter(option.field_type() | None).json_schema()}
    schema["additionalProperties"] = False


class GenerateRequest(BaseModel):
    """A generation: beside these, the options of the target by their keys."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_with_options)
    terms: list[TermRequest] = Field(min_length=1, max_length=16)
    to: str = Field(
        description="What to make; `targets` of the catalog says what this server makes, with which options"
    )
    count: int = Field(1, ge=1, le=16)
    seed: int = Field(0, ge=0, lt=1 << 31)


class JobAnswer(BaseModel):
    """A generation that was begun."""

    job: str
    events: str


class SessionRequest(Request):
    """What a browser trades for a cookie."""

    token: str = Field(max_length=4096)
