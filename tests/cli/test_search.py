from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from embedspace.calibration.model import Calibration, MatchModel, PairCalibration
from embedspace.catalog.catalog import Catalog
from embedspace.catalog.records import CatalogItem, Hit
from embedspace.cli.search import _remark
from embedspace.segment import Segment
from tests.support.cli_media import Run, make_run, media_folder
from tests.support.cli_space import DIM, CliSpace, vector_of


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


def _item(uri: str, modality: str, content: str, **options: object) -> CatalogItem:
    segment = Segment(modality, vector_of(content), *options.pop("span", (None, None)), options.pop("text", ""))
    return CatalogItem(uri, options.pop("kind", modality), [segment], metadata=options, content_hash="")


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(media_folder(tmp_path / "media"))
    space, path = CliSpace(), tmp_path / "media.catalog"
    items = [
        _item("/m/bark.wav", "audio", "a barking dog", span=(61.0, 63.5), licence="CC0-1.0", year=2020),
        _item("/m/dog.png", "image", "dog picture", licence="MIT", year=2021),
        _item("/m/a.txt", "text", "tall grass", text="tall grass", span=(0, 10)),
    ]
    with Catalog.create(
        path,
        embed_dim=DIM,
        fingerprints=space.fingerprints(),
        calibration_json=space.calibration_json(),
    ) as opened:
        opened.add(items)
    return path


def _uris(out: str) -> list[str]:
    return [json.loads(line)["uri"] for line in out.splitlines()]


def test_search_prints_a_table(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "a barking dog", "-k", "2")
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].split() == ["rank", "prob", "score", "modality", "at", "uri", "text"]
    assert lines[1].split() == ["1", "1.00", "1.000", "audio", "1:01-1:03.5", "/m/bark.wav"]
    assert len(lines) == 3


def test_search_json_is_stable(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "a barking dog", "-k", "1", "--json")
    (line,) = result.out.splitlines()
    record = json.loads(line)
    assert len(record.pop("id")) == 32
    assert abs(record.pop("score") - 1) < 1e-3
    assert record.pop("probability") > 0.99
    assert record == {
        "query": "a barking dog",
        "rank": 1,
        "modality": "audio",
        "kind": "audio",
        "uri": "/m/bark.wav",
        "start": 61.0,
        "end": 63.5,
        "label": "",
        "text": "",
        "metadata": {"licence": "CC0-1.0", "year": 2020},
        "unknown_words": [],
    }
    order = ["query", "rank", "probability", "score", "modality", "kind", "uri", "start", "end", "label", "text"]
    assert list(json.loads(line)) == [*order, "metadata", "id", "unknown_words"]


def test_search_by_words_and_by_what_is_said(run: Run, catalog: Path) -> None:
    assert _uris(run("search", catalog, "speech.wav", "--as", "speech", "-k", "1", "--json").out) == ["/m/bark.wav"]
    assert _uris(run("search", catalog, "tall grass", "-k", "1", "--json").out) == ["/m/a.txt"]


def test_search_filters(run: Run, catalog: Path) -> None:
    assert _uris(run("search", catalog, "x", "--to", "image", "--json").out) == ["/m/dog.png"]
    both = run("search", catalog, "x", "--to", "image", "--to", "text", "--json").out
    assert sorted(_uris(both)) == ["/m/a.txt", "/m/dog.png"]
    assert _uris(run("search", catalog, "x", "--where", "year > 2020", "--json").out) == ["/m/dog.png"]


def test_search_says_when_nothing_matches(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "nothing like it", "--min-probability", "0.9")
    assert (result.code, result.out) == (0, "")
    assert result.err == "no good match: nothing reaches probability 0.9\n"
    result = run("search", catalog, "x", "--to", "speech", "--json")
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("no match")
    result = run("search", catalog, "nothing like it")
    assert len(result.out.splitlines()) == 4
    assert "no good match: the best of these has probability" in result.err


def test_search_calls_nothing_a_good_match_below_the_cutoff_of_its_pair() -> None:
    model = MatchModel(10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    pair = PairCalibration(model=model, cutoffs=((100.0, 0.3), (1_000.0, 0.1)))
    calibration, sizes = Calibration(pairs={"text>image": pair}), {"image": 100, "audio": 7}
    hits = [
        Hit("a", "a.png", "image", "image", 0.5, 0.29, None, None, "", "", {}, 1),
        Hit("b", "b.wav", "audio", "audio", 0.5, 0.09, None, None, "", "", {}, 2),
    ]
    assert (
        _remark("text", hits, calibration, sizes, None, "") == "no good match: the best of these has probability 0.29"
    )
    assert _remark("text", [dataclasses.replace(hits[0], probability=0.31)], calibration, sizes, None, "") == ""
    assert (
        _remark("text", [dataclasses.replace(hits[1], probability=0.11)], calibration, sizes, None, "") == ""
    )  # not fitted: 0.1
    assert _remark("mixed", hits, calibration, sizes, None, "") != ""
    assert _remark("text", hits, calibration, {"image": 1_000, "audio": 7}, None, "") == ""  # less is good among more


def test_search_without_calibration_shows_cosines_alone(run: Run, tmp_path: Path) -> None:
    space = CliSpace()
    space.calibration = Calibration()
    note = tmp_path / "note.txt"
    note.write_text("tall grass")
    run("index", note, "--catalog", tmp_path / "c.catalog", space=space)
    found = run("search", tmp_path / "c.catalog", "tall grass")
    assert found.code == 0
    assert found.out.splitlines()[1].split()[:4] == ["1", "-", "1.000", "text"]
    assert found.err.startswith("no probabilities: the catalog's space was not calibrated")
    assert json.loads(run("search", tmp_path / "c.catalog", "tall grass", "--json").out)["probability"] is None
    refused = run("search", tmp_path / "c.catalog", "tall grass", "--min-probability", "0.5")
    assert refused.code != 0 and refused.out == "" and len(refused.err.splitlines()) == 1
    assert "gives no probabilities for text>text" in refused.err
    assert "hits have no probabilities" in run("catalog", "info", tmp_path / "c.catalog").out


def test_search_composes(run: Run, catalog: Path) -> None:
    quoted = run("search", catalog, "tall grass + 0.5:a barking dog", "--json", "-k", "2")
    split = run("search", catalog, "tall grass", "+", "0.5:a barking dog", "--json", "-k", "2")
    assert _uris(quoted.out) == _uris(split.out) == ["/m/a.txt", "/m/bark.wav"]
    minus = run("search", catalog, "--json", "-k", "3", "--", "- tall grass")
    assert _uris(minus.out)[-1] == "/m/a.txt"


def test_search_keeps_arguments_whole_between_split_operators(run: Run, catalog: Path) -> None:
    (first,) = run("search", catalog, "a - b", "+", "c", "--json", "-k", "1").out.splitlines()
    assert json.loads(first)["query"] == '"a - b" + c'


def test_search_explains(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "2:tall grass - dog.png", "--explain", "--json")
    assert "+2  tall grass  text" in result.err
    assert "-1  dog.png     image" in result.err
    assert "modality means taken out" in result.err


def test_search_many_queries(run: Run, catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("search", catalog, "tall grass", "a barking dog", "-k", "1")
    assert [line for line in result.out.splitlines() if line.startswith("#")] == ["# tall grass", "# a barking dog"]
    monkeypatch.setattr("sys.stdin", io.StringIO("tall grass\n\na barking dog\n"))
    rows = [json.loads(line) for line in run("search", catalog, "-", "-k", "1", "--json").out.splitlines()]
    assert [(row["query"], row["uri"]) for row in rows] == [
        ("tall grass", "/m/a.txt"),
        ("a barking dog", "/m/bark.wav"),
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "standard input is empty" in run("search", catalog, "-").error


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query is empty"),
        ("dog +", "nothing follows"),
        ("missing.png", "missing.png: no such file"),
        ("tall grass - tall grass", "cancel"),
        ("rain.xyz.pdf", None),
    ],
)
def test_search_refuses_a_bad_query(run: Run, catalog: Path, query: str, message: str | None) -> None:
    Path("rain.xyz.pdf").write_bytes(b"%PDF")
    result = run("search", catalog, query)
    assert result.code == 2
    assert (message or "unknown file suffix '.pdf'") in result.error


def test_search_refuses_a_bad_filter(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "x", "--where", "yaer > 2020")
    assert result.code == 2
    assert "yaer" in result.error


def test_search_refuses_undecodable_queries(run: Run, catalog: Path) -> None:
    Path("cut.png").write_bytes(Path("dog.png").read_bytes()[:100])
    result = run("search", catalog, "cut.png")
    assert result.code == 2
    assert "cut.png" in result.error


def test_search_refuses_a_missing_or_broken_catalog(run: Run, catalog: Path, tmp_path: Path) -> None:
    result = run("search", tmp_path / "no.catalog", "x")
    assert result.code == 2
    assert "no catalog here" in result.error
    (catalog / "catalog.sqlite").write_bytes(b"not a database" * 1000)
    result = run("search", catalog, "x")
    assert result.code == 2
    assert "damaged" in result.error


def test_search_refuses_a_catalog_of_another_encoder(run: Run, catalog: Path) -> None:
    result = run("search", catalog, "x", space=CliSpace(version="2"))
    assert result.code == 2
    assert "catalog migrate" in result.error


def test_search_makes_file_names_harmless_on_a_terminal(run: Run, catalog: Path) -> None:
    with Catalog.open(catalog) as opened:
        opened.add([_item("/m/\x1b[31mred.txt", "text", "escape", text="a\nb\x07c")])
    result = run("search", catalog, "escape", "-k", "1")
    assert "\x1b" not in result.out
    assert "\x07" not in result.out
    assert len(result.out.splitlines()) == 2


def test_search_finds_vectors_whatever_the_query_scale(run: Run, catalog: Path) -> None:
    one = run("search", catalog, "tall grass", "--json").out
    scaled = run("search", catalog, "7:tall grass", "--json").out
    scores = [[json.loads(line)["score"] for line in out.splitlines()] for out in (one, scaled)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_search_says_what_the_catalog_lacks(run: Run, catalog: Path) -> None:
    run("catalog", "remove", catalog, "--where", "kind = 'audio'")
    lacking = {
        ("--to", "audio"): "the catalog holds no audio (--to), only image, text",
        ("--where", "kind = 'audio'"): "nothing in the catalog fulfils --where",
        ("--to", "text", "--where", "kind = 'image'"): "nothing in the catalog fulfils --where and --to",
    }
    for options, reason in lacking.items():
        assert run("search", catalog, "x", *options).err == f"no match: {reason}\n"
    run("catalog", "remove", catalog, "--where", "kind != 'audio'")
    reason = f"the catalog is empty; fill it with: embedspace index PATHS --catalog {catalog}"
    assert run("search", catalog, "x", "--to", "audio", "--min-probability", "0.5").err == f"no match: {reason}\n"


def test_search_says_which_words_are_unknown(run: Run, catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CliSpace, "unknown_words", lambda self, text: ["\u732b"] if "\u732b" in text else [], raising=False
    )
    result = run("search", catalog, "\u732b", "-k", "1", "--json")
    assert json.loads(result.out)["unknown_words"] == ["\u732b"]
    first = result.err.splitlines()[0]
    assert first.startswith("the text encoder does not know \u732b; it reads English: translate the query")
    assert first.endswith("its hits mean little")
    known = run("search", catalog, "a barking dog", "-k", "1", "--json")
    assert json.loads(known.out)["unknown_words"] == [] and "does not know" not in known.err


def test_search_takes_a_query_that_begins_with_a_minus(run: Run, catalog: Path) -> None:
    plain = run("search", catalog, "- cat", "--json")
    assert plain.code == 0
    hits = [json.loads(line) for line in plain.out.splitlines()]
    assert hits and hits[0]["query"] == "- cat"
    shielded = run("search", catalog, "--json", "--", "- cat")
    assert [hit["uri"] for hit in hits] == [json.loads(line)["uri"] for line in shielded.out.splitlines()]


@pytest.mark.parametrize("query", ["caf\udce9", "dog.png + caf\udce9"])
def test_search_refuses_words_that_are_not_utf8(run: Run, catalog: Path, query: str) -> None:
    result = run("search", catalog, query.replace("dog.png", "a dog"))
    assert result.code == 2
    assert "not UTF-8" in result.error
