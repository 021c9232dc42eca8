"""Suites: parsing, selecting rows, running on a fake space, composed queries, reports."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.calibration.model import Calibration, MatchModel, PairCalibration
from embedspace.catalog import Catalog, CatalogItem
from embedspace.errors import ConfigError, MediaError, MissingExtraError
from embedspace.evaluate import evaluate_retrieval, evaluate_suite, load_suite
from embedspace.evaluate.encode import SuiteEncoder, read_shard
from embedspace.evaluate.items import EvalItem, rows_hash, select_all
from embedspace.evaluate.report import heat_map, markdown
from embedspace.evaluate.retrieval.composed import (
    ComposedPair,
    composed_queries,
    paired_gain,
    phrase_rows,
)
from embedspace.evaluate.retrieval.documents import document_search
from embedspace.evaluate.suite import Composed
from embedspace.query.algebra import compose_rows
from embedspace.query.composition import compose
from embedspace.segment import Decoded, Segment

THINGS = ["dog", "cat", "rain", "bell", "red dog", "red cat"]
DIM = 64

SUITE = """
name = "tiny"
description = "Four things."
directions = "all"
resamples = 50
[sets.image]
manifests = ["things"]
rows = "image"
key = "concept"
where = { split = "test" }
[sets.audio]
manifests = ["sounds"]
modality = "audio"
key = "concept"
[sets.text]
manifests = ["things"]
rows = "image"
modality = "text"
key = "concept"
where = { split = "test" }
[sets.speech]
manifests = ["things"]
rows = "speech"
modality = "speech"
key = "concept"
"""


def vector_of(words: str) -> np.ndarray:
    """Sum of one fixed random direction a word: composition works by construction."""
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") for word in words.split()]
    total = np.sum([np.random.default_rng(seed).standard_normal(DIM) for seed in seeds], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


class FakeSpace:
    """Files hold their concept; waveforms carry its index as their level."""

    embed_dim = DIM
    calibration = Calibration(means={"image": np.full(DIM, 0.02, np.float32), "text": np.full(DIM, -0.03, np.float32)})

    def __init__(self) -> None:
        self.encoded: list[Any] = []
        self.called = ""
        self.options: dict[str, dict[str, Any]] = {}
        self.named: dict[bytes, str] = {}
        self.rates: list[int | None] = []

    def fingerprints(self) -> Mapping[str, str]:
        return {name: hashlib.sha256(name.encode()).hexdigest() for name in ("image", "text", "audio", "speech")}

    def with_options(self, modality: str, **options: Any) -> FakeSpace:
        other = FakeSpace()
        other.options = {modality: options}
        return other

    def names(self, vectors: np.ndarray, modality: str) -> list[list[tuple[str, float]]]:
        return [[(self.called, 1.0)] if self.called else [] for _ in vectors]

    def for_documents(self, vectors: np.ndarray, modality: str) -> np.ndarray:
        return vectors[:, None]

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        rows = np.stack([vector_of(text) for text in texts])
        return -rows if self.options else rows  # set otherwise: everything is far from what it means

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        contents = [Path(image).read_text() for image in images]
        if "broken" in contents:
            raise MediaError("a broken picture")
        return self.encode_text(contents)

    def encode_audio(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> np.ndarray:
        self.rates.append(sample_rate)
        names = [
            Path(one).read_text() if isinstance(one, Path) else THINGS[round(float(one[0]) * 32767)]
            for one in waveforms
        ]
        return self.encode_text(names)

    encode_speech = encode_audio

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        return Decoded(kind=kind, inputs=[source if kind == "text" else Path(source).read_text()])

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        return [[Segment(item.kind, vector_of(item.inputs[0]))] for item in items]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Pictures and speech of six things (two only for training), sounds of four as files, speech as a shard."""
    folder = tmp_path / "corpora"
    rows: list[dict[str, Any]] = []
    (folder / "things/files").mkdir(parents=True)
    for number, thing in enumerate(THINGS):
        (folder / f"things/files/{number}.png").write_text(thing)
        rows.append(
            {"id": f"things/{number}", "modality": "image", "path": f"things/files/{number}.png", "captions": [thing]}
            | {"concept": thing, "split": "test" if number < 4 else "train"}
        )
        if number < 4:
            rows.append(
                {"id": f"speech/{number}", "modality": "speech", "path": f"things/clips.npy#{number}:{number + 1}"}
                | {"concept": thing, "speaker": "ab"[number % 2], "extra": {"sample_rate": 16000}}
            )
    np.save(folder / "things/clips.npy", np.arange(len(THINGS), dtype=np.int16))
    write_rows(folder / "things/manifest.jsonl", rows)
    sounds = []
    for thing in ("rain", "bell", "rain"):
        name = f"sounds/{len(sounds)}.wav"
        (folder / "sounds").mkdir(exist_ok=True)
        (folder / name).write_text(thing)
        sounds.append({"id": name, "modality": "audio", "path": name, "concept": thing})
    write_rows(folder / "sounds/manifest.jsonl", sounds)
    return folder


def save_suite(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 1", "name: must be text, got 1"),
        ("nam = 'x'", "unknown key 'nam'; known: name"),
        ("name = 'x'", "'description' is missing"),
        ("name = 'x'\ndescription = ''", "'sets' is missing"),
        ("name = 'x'\ndescription = ''\n[sets.image]\nmanifests = ['a']", "no directions"),
        ("name = [", "not a TOML file"),
        ("folder = 'x'", "unknown key 'folder'"),
        ("directions = 'some'", 'must be "all"'),
        ("[sets]\nimage = 3", "sets.image: must be a table"),
        ("[sets.image]\nmanifests = 'stamps'", "must be a list of texts"),
        ("[sets.image]\nmanifest = ['stamps']", "unknown key 'manifest'"),
        ("[sets.image]\nmanifests = ['a']\nwhere = 1", "where: must be a table"),
        ("[sets.image]\nmanifests = ['a']\n[sets.image.novel_to]\nwords = 'all'", "'manifests' is missing"),
        (SUITE.replace('modality = "audio"', 'modality = "smell"'), "unknown modality 'smell'"),
        (SUITE.replace("[sets.audio]", '[sets.audio]\nwithin = "text"'), "no earlier set"),
        (SUITE.replace('directions = "all"', "directions = [{query = 'image', gallery = 'taste'}]"), "no set 'taste'"),
        (SUITE.replace("resamples = 50", "ks = [0]"), "at least 1"),
    ],
)
def test_load_suite_refuses_with_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite(save_suite(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_suite_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such suite; suites lie under"):
        load_suite(tmp_path / "none.toml")


def test_shipped_suites_are_all_readable() -> None:
    suites = sorted((Path(__file__).parents[2] / "eval/suites").glob("*.toml"))
    others = ("generation", "families", "stabilisers")  # read by loaders of their own
    suites = [path for path in suites if not path.stem.startswith(others)]
    assert suites
    for path in suites:
        suite = load_suite(path)
        assert suite.name == path.stem
        assert suite.description


def test_suite_measures_all_twelve_directions(tmp_path: Path, corpora: Path) -> None:
    space = FakeSpace()
    result = evaluate_suite(space, load_suite(save_suite(tmp_path, SUITE)), corpora=corpora)
    assert len(result.results) == 12
    assert result.sizes == {"image": 4, "audio": 3, "text": 4, "speech": 4}
    assert result.primary_metric == 1.0
    assert set(space.rates) == {None, 16000}
    text_audio = result.result("text", "audio")
    assert (text_audio.num_queries, text_audio.num_unanswerable, text_audio.gallery_size) == (2, 2, 3)
    assert text_audio.metrics["ir_recall_at_1"].value == 0.75  # rain has two sounds: one fits in the first place
    assert text_audio.metrics["recall_at_1"].value == 1.0


def test_broken_item_counts_as_missing_and_is_named(tmp_path: Path, corpora: Path) -> None:
    (corpora / "things/files/1.png").write_text("broken")
    result = evaluate_suite(FakeSpace(), load_suite(save_suite(tmp_path, SUITE)), corpora=corpora)
    assert result.failures == {"things/1": "a broken picture"}
    direction = result.result("image", "text")
    assert (direction.num_missing, direction.num_queries) == (1, 4)
    assert direction.metrics["recall_at_1"].value == 0.75
    assert result.result("text", "image").metrics["recall_at_10"].value == 0.75


def test_groups_are_measured_over_the_whole_gallery(tmp_path: Path, corpora: Path) -> None:
    text = SUITE.replace('directions = "all"', "directions = [{query='speech', gallery='text', by='speaker'}]")
    result = evaluate_suite(FakeSpace(), load_suite(save_suite(tmp_path, text)), corpora=corpora).results[0]
    assert {name: group.num_queries for name, group in result.groups.items()} == {"a": 2, "b": 2}
    assert {group.gallery_size for group in result.groups.values()} == {4}
    assert result.group_mean["recall_at_1"].value == 1.0


def test_a_set_may_be_encoded_by_an_encoder_that_is_set_otherwise(tmp_path: Path, corpora: Path) -> None:
    text = SUITE.replace('"all"', '[{ query = "image", gallery = "text" }, { query = "deaf", gallery = "text" }]')
    text += '[sets.deaf]\nmanifests = ["things"]\nrows = "image"\nkey = "concept"\nwhere = { split = "test" }\n'
    path = save_suite(tmp_path, text + "options = { hears = 0.0 }\n")
    found = evaluate_retrieval(path, FakeSpace(), corpora=corpora, cache=None, ks=(1,), primary_metric="recall_at_1")
    assert [result["metrics"]["recall_at_1"][0] for result in found["results"]] == [1.0, 0.0]
    suite = load_suite(path)
    with pytest.raises(ConfigError, match="'deaf' has options, which vectors made elsewhere cannot heed"):
        evaluate_suite(FakeSpace(), suite, corpora=corpora, encode=lambda items, _: np.zeros((len(items), DIM)))


def test_a_description_counts_sets_and_a_suite_names_its_own_encoders(tmp_path: Path, corpora: Path) -> None:
    path = save_suite(tmp_path, SUITE.replace("Four things.", "{image} things, {audio} sounds."))
    assert evaluate_retrieval(path, FakeSpace(), corpora=corpora, cache=None)["description"] == "4 things, 3 sounds."
    for line, message in (
        (
            'description = "{dogs} dogs"',
            r"description counts \{dogs\}, which is no set; known: image audio text speech",
        ),
        ('description = "d"\nown_weights = ["smell"]', "own_weights: unknown modality 'smell'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_suite(save_suite(tmp_path, SUITE.replace('description = "Four things."', line)))


def test_search_within_one_set_leaves_the_query_out(tmp_path: Path, corpora: Path) -> None:
    text = SUITE.replace('directions = "all"', "directions = [{query='audio', gallery='audio'}]")
    result = evaluate_suite(FakeSpace(), load_suite(save_suite(tmp_path, text)), corpora=corpora).results[0]
    assert (result.num_queries, result.num_unanswerable) == (2, 1)
    assert result.metrics["recall_at_1"].value == 1.0


def test_positives_file_says_what_answers(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / "answers.json").write_text(json.dumps({"dog": ["cat", "bell"]}))
    text = SUITE.replace(
        'directions = "all"', "directions = [{query='image', gallery='text', positives='answers.json'}]"
    )
    result = evaluate_suite(FakeSpace(), load_suite(save_suite(tmp_path, text)), corpora=corpora).results[0]
    assert (result.num_queries, result.num_unanswerable) == (1, 3)
    assert result.metrics["recall_at_1"].value == 0.0
    (tmp_path / "answers.json").write_text("[1]")
    with pytest.raises(ConfigError, match="not the table of answers"):
        evaluate_suite(FakeSpace(), load_suite(tmp_path / "suite.toml"), corpora=corpora)


def test_positives_as_a_list_of_tables(tmp_path: Path, corpora: Path) -> None:
    entries = [{"asked": ["dog", "cat"], "found": ["cat"]}, {"asked": ["dog"], "found": ["dog"]}]
    (tmp_path / "answers.json").write_text(json.dumps(entries))
    direction = "{query='image', gallery='text', positives='answers.json', positives_fields=['asked', 'found']}"
    text = SUITE.replace('directions = "all"', f"directions = [{direction}]")
    result = evaluate_suite(FakeSpace(), load_suite(save_suite(tmp_path, text)), corpora=corpora).results[0]
    assert (result.num_queries, result.metrics["recall_at_1"].value) == (2, 1.0)
    assert result.metrics["ir_recall_at_1"].value == 0.75


def sets_of(tmp_path: Path, corpora: Path, options: str) -> list[str]:
    head = "name='s'\ndescription=''\ndirections=[{query='x', gallery='x'}]\n[sets.x]\nmanifests=['things','sounds']\n"
    return [item.id for item in select_all(load_suite(save_suite(tmp_path, head + options)), corpora)["x"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rows='image'\nwhere={concept='red *'}", ["things/4", "things/5"]),
        ("rows='image'\nwhere_not={concept=['red *', 'dog', 'cat']}", ["things/2", "things/3"]),
        ("key='concept'\nfirst_by='concept'\nwhere={concept='rain'}", ["things/2"]),
        ("use='concept + captions.0'\nwhere={concept='red cat'}", ["things/5"]),
        ("key='concept'\nlone_by='concept'", ["things/4", "things/5"]),
        ("rows='image'\nwhere={split='test'}\n[sets.x.novel_to]\nmanifests=['things']\nwhere={split='train'}",
         ["things/2", "things/3"]),
        ("rows='image'\nwhere={split='train'}\n[sets.x.novel_to]\nmanifests=['things']\nwhere={split='test'}\n"
         "words='phrase'", ["things/4", "things/5"]),
        ("key='concept'\nwhere={modality=['image', 'audio']}\nspread_over='modality'",
         ["things/2", "things/3", "sounds/0.wav", "sounds/1.wav", "sounds/2.wav"]),
        ("rows='speech'\nwhere={'extra.sample_rate'=16000, speaker='a'}", ["speech/0", "speech/2"]),
    ],
)  # fmt: skip
def test_select_keeps_the_right_rows(tmp_path: Path, corpora: Path, options: str, expected: list[str]) -> None:
    assert sets_of(tmp_path, corpora, options) == expected


def test_select_limit_does_not_depend_on_order_and_keeps_it(tmp_path: Path, corpora: Path) -> None:
    chosen = sets_of(tmp_path, corpora, "rows='image'\nlimit=3")
    path = corpora / "things/manifest.jsonl"
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    assert sets_of(tmp_path, corpora, "rows='image'\nlimit=3") == chosen[::-1]


def test_select_names_a_missing_manifest_and_an_empty_set(tmp_path: Path, corpora: Path) -> None:
    with pytest.raises(ConfigError, match="selects no row"):
        sets_of(tmp_path, corpora, "where={concept='unicorn'}")
    (corpora / "sounds/manifest.jsonl").write_text('{"id": "a"}\nnot json\n')
    with pytest.raises(ConfigError, match=r"manifest.jsonl:2: not JSON"):
        sets_of(tmp_path, corpora, "")
    (corpora / "sounds/manifest.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"build the corpus 'sounds' first"):
        sets_of(tmp_path, corpora, "")


def test_rows_hash_changes_with_what_is_measured() -> None:
    item = EvalItem("a", "x.png", "k", {})
    other = EvalItem("b", "y.png", "k", {})
    assert rows_hash({"s": [item, other]}) == rows_hash({"s": [other, item]})
    assert rows_hash({"s": [item]}) != rows_hash({"s": [EvalItem("a", "x.png", "other", {})]})


def test_encoder_remembers_vectors_until_the_file_changes(tmp_path: Path, corpora: Path) -> None:
    items = [EvalItem("things/0", "things/files/0.png", "dog", {}), EvalItem("t", "some words", "t", {})]
    for expected in (["dog"], [], []):
        space = FakeSpace()
        rows = SuiteEncoder(space, corpora, tmp_path / "cache").encode(items[:1], "image")
        assert space.encoded == expected
        assert np.allclose(rows[0], vector_of("dog"))
    (corpora / "things/files/0.png").write_text("a cat")
    assert np.allclose(SuiteEncoder(FakeSpace(), corpora, tmp_path / "cache").encode(items[:1], "image")[0],
                       vector_of("a cat"))  # fmt: skip
    (next((tmp_path / "cache").glob("image*.npz"))).write_bytes(b"torn")
    assert np.isfinite(SuiteEncoder(FakeSpace(), corpora, tmp_path / "cache").encode(items[:1], "image")).all()


def test_read_shard_by_samples_and_errors(corpora: Path) -> None:
    clip = read_shard(corpora, "things/clips.npy#1:3")
    assert clip is not None
    assert clip.tolist() == pytest.approx([1 / 32767, 2 / 32767])
    assert read_shard(corpora, "sounds/0.wav") is None
    for content in ("things/clips.npy#3:99", "things/clips.npy#3:3", "things/none.npy#0:3"):
        with pytest.raises(MediaError):
            read_shard(corpora, content)


def composed_suite(folder: Path) -> Path:
    pairs = [
        {"base": thing, "words": "red", "target": f"red {thing}", "name": f"red {thing}"} for thing in ("dog", "cat")
    ]
    write_rows(folder / "pairs.jsonl", pairs)
    return save_suite(
        folder,
        "name = 'composed'\ndescription = 'Picture and word.'\nks = [1, 2]\nprimary_metric = 'recall_at_1'\n"
        "[sets.image]\nmanifests = ['things']\nrows = 'image'\nkey = 'concept'\n"
        "[composed]\npairs = 'pairs.jsonl'\nbase = 'image'\ngallery = 'image'\n",
    )


def test_composed_queries_beat_their_parts_where_meaning_adds_up(tmp_path: Path, corpora: Path) -> None:
    result = evaluate_suite(FakeSpace(), load_suite(composed_suite(tmp_path)), corpora=corpora)
    by_label = {entry.label: entry for entry in result.results}
    assert {entry.num_queries for entry in result.results} == {2}
    assert by_label["picture + words"].metrics["recall_at_1"].value == 1.0
    assert by_label["target's full name"].metrics["recall_at_1"].value == 1.0
    assert by_label["words alone"].metrics["recall_at_1"].value == 0.5
    parts = [by_label[name].metrics["recall_at_1"].value for name in ("picture alone", "words alone")]
    assert result.gains["recall_at_1"].value == pytest.approx(1.0 - max(parts))


def test_composed_pair_of_unknown_items_is_an_error(tmp_path: Path, corpora: Path) -> None:
    suite = load_suite(composed_suite(tmp_path))
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write('{"base": "unicorn", "words": "red", "target": "red dog"}\n')
    with pytest.raises(ConfigError, match=r"1 of 3 pairs .* build the pairs again"):
        evaluate_suite(FakeSpace(), suite, corpora=corpora)
    (tmp_path / "pairs.jsonl").write_text('{"bass": "dog"}\n')
    with pytest.raises(ConfigError, match="not a pair"):
        evaluate_suite(FakeSpace(), suite, corpora=corpora)


def test_compose_rows_equals_the_query_algebra(tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_text("dog")
    space = FakeSpace()
    expected = compose(f"2:{tmp_path}/dog.png + red", space).vector
    rows = compose_rows(
        [(2.0, "image", vector_of("dog")[None]), (1.0, "text", vector_of("red")[None])], space.calibration.means
    )
    assert np.allclose(rows[0], expected, atol=1e-6)
    plain = compose("dog + red", space).vector
    terms = [(1.0, "text", vector_of("dog")[None]), (1.0, "text", vector_of("red")[None])]
    assert np.allclose(compose_rows(terms, space.calibration.means)[0], plain, atol=1e-6)


def test_phrase_rows_are_the_reading_of_the_query_algebra(tmp_path: Path) -> None:
    space = FakeSpace()
    space.called = "a hound"
    (tmp_path / "dog.png").write_text("dog")
    expected = compose(f"2:{tmp_path}/dog.png + red", space).vector
    picture, words = vector_of("dog")[None], vector_of("red")[None]
    read = phrase_rows(space.names(picture, "image"), ["red"], space.encode_text)
    assert read is not None
    rows = compose_rows([(2.0, "image", picture), (1.0, "text", words), (3.0, "text", read)], space.calibration.means)
    assert np.allclose(rows[0], expected, atol=1e-6)
    assert phrase_rows([[]], ["red"], space.encode_text) is None


def test_composed_queries_are_also_measured_as_a_sum_alone(tmp_path: Path, corpora: Path) -> None:
    space, suite = FakeSpace(), load_suite(composed_suite(tmp_path))
    labels = {r.label for r in evaluate_suite(space, suite, corpora=corpora).results}
    space.called = "dog"
    assert {r.label for r in evaluate_suite(space, suite, corpora=corpora).results} - labels == {
        "the sum of both, never read as one text",
        "the sum of both, always read as one text, too",
    }


def test_composed_queries_choose_as_the_query_algebra_does(tmp_path: Path) -> None:
    space = FakeSpace()
    space.called = "a hound"
    (tmp_path / "dog.png").write_text("dog")
    said = ["red", "a cat"]
    pairs = [ComposedPair("dog", words, "any") for words in said]
    pictures = np.stack([vector_of("dog")] * 2)
    given = (Composed("", "image", "image"), pairs, pictures, "image", space, space.encode_text)
    queries = composed_queries(*given)
    chosen = queries["picture + words"]
    for row, words in zip(chosen, said, strict=True):
        assert np.allclose(row, compose(f"{tmp_path}/dog.png + {words}", space).vector, atol=1e-6)
    np.testing.assert_array_equal(chosen[0], queries["the sum of both, always read as one text, too"][0])
    np.testing.assert_array_equal(chosen[1], queries["the sum of both, never read as one text"][1])
    assert not np.allclose(chosen[1], queries["the sum of both, always read as one text, too"][1])


def test_items_of_several_fields_are_found_by_their_best_as_documents(tmp_path: Path) -> None:
    """Half of the dishes have a title that says it, half a body; a picture is drawn towards its name first."""

    class DrawnSpace(FakeSpace):
        def for_documents(self, vectors: np.ndarray, modality: str) -> np.ndarray:
            assert modality == "image"
            return np.stack([vector_of(self.named[row.tobytes()])[None] for row in vectors])

    space = DrawnSpace()
    corpora, dishes = tmp_path / "corpora", ("soup", "cake", "bread", "pie")
    (corpora / "food").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, dish in enumerate(dishes):
        (corpora / f"food/{number}.png").write_text(f"drawing {number}")
        extra = {"title": dish if number % 2 else "nothing", **({} if number % 2 else {"body": dish})}
        rows.append({"id": dish, "modality": "image", "path": f"food/{number}.png", "extra": extra})
    write_rows(corpora / "food/manifest.jsonl", rows)
    space.named = {vector_of(f"drawing {number}").tobytes(): dish for number, dish in enumerate(dishes)}
    text = """
        name = "food"
        description = "."
        directions = [
            { query = "dish", gallery = "title" },
            { query = "dish", gallery = "title", fields = ["body"], documents = true, label = "documents" },
        ]
        [sets]
        dish = { manifests = ["food"] }
        title = { manifests = ["food"], modality = "text", use = "extra.title" }
        body = { manifests = ["food"], modality = "text", use = "extra.body", where = { id = ["soup", "bread"] } }
    """
    (tmp_path / "food.toml").write_text(text)
    found = evaluate_suite(space, load_suite(tmp_path / "food.toml"), corpora=corpora)
    assert found.result("dish", "title", "documents").metrics["recall_at_1"].value == 1.0
    assert found.results[0].metrics["recall_at_1"].value < 1.0


def test_compose_rows_of_cancelled_terms_is_missing() -> None:
    row = vector_of("dog")[None]
    assert np.isnan(compose_rows([(1.0, "text", row), (-1.0, "text", row)], {})).all()


def test_paired_gain_by_hand() -> None:
    gain = paired_gain(np.array([1.0, 1, 1, 0]), [np.array([1.0, 0, 0, 0]), np.zeros(4)], resamples=200, seed=0)
    assert gain.value == 0.5
    assert 0.0 <= gain.low <= 0.5 <= gain.high <= 1.0


def test_evaluate_retrieval_writes_a_checkable_report(
    tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpora / "splits.json").write_text("{}")
    monkeypatch.setenv("EMBEDSPACE_CORPORA", str(corpora))
    told: list[tuple[str, int, int]] = []
    entry = evaluate_retrieval(
        save_suite(tmp_path, SUITE), FakeSpace(), tmp_path / "results", lambda *news: told.append(news), cache=None
    )
    stored = json.loads((tmp_path / "results/tiny.json").read_text())
    assert stored == entry
    golden = {"suite", "description", "training", "commit", "date", "seed", "resamples", "split_hash", "corpora_splits"}
    golden |= {"weights", "sizes", "results", "gains", "num_failures", "failures"}
    assert set(stored) == golden
    assert stored["corpora_splits"] == hashlib.sha256(b"{}").hexdigest()
    assert len(stored["split_hash"]) == 64
    assert stored["weights"]["image"] == FakeSpace().fingerprints()["image"]
    first = stored["results"][0]
    assert (first["query"], first["gallery"], first["gallery_size"]) == ("image", "audio", 3)
    assert first["metrics"]["recall_at_1"] == [1.0, 1.0, 1.0]
    assert set(first["chance"]) == {"recall_at_1", "recall_at_5", "recall_at_10"}
    assert (tmp_path / "results/tiny.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "results/tiny.md").read_text()
    assert "| image → text | 4 | 4 concept | 4 | 100.0 [100.0, 100.0] |" in table
    assert ("encode image", 4, 4) in told


def test_evaluate_retrieval_is_deterministic_and_refuses_unknown_overrides(tmp_path: Path, corpora: Path) -> None:
    path = composed_suite(tmp_path)
    first = evaluate_retrieval(path, FakeSpace(), corpora=corpora, cache=None, seed=3)
    assert first == evaluate_retrieval(path, FakeSpace(), corpora=corpora, cache=None, seed=3)
    assert "Composed over the better of its parts" in markdown(first)
    with pytest.raises(ConfigError, match="galery"):
        evaluate_retrieval(path, FakeSpace(), corpora=corpora, cache=None, galery=1)


def test_heat_map_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    pair = {"query": "image", "gallery": "text", "label": "", "metrics": {"recall_at_10": [1.0, 1.0, 1.0]}}
    with pytest.raises(MissingExtraError, match=r"embedspace\[train\]"):
        heat_map({"suite": "x", "results": [pair]}, tmp_path / "x.png")
    assert not heat_map({"suite": "x", "results": []}, tmp_path / "x.png")


def test_document_search_finds_what_a_catalog_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def units(*shape: int) -> np.ndarray:
        rows = rng.standard_normal((*shape, 8)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    model = MatchModel(11.0, 5.0, -4.0, 9.0, 12.0, -0.3, -6.0)
    calibration = Calibration(pairs={"image>text": PairCalibration(model=model)})
    queries, gallery = units(3), units(20, 2)
    readings = units(3, 2) * np.array([0.7, 0.3], np.float32)[:, None]
    gallery[4, 1] = np.nan
    odds, items = document_search(queries, readings, gallery, calibration, "image")
    with Catalog.create(
        tmp_path / "c.catalog", embed_dim=8, fingerprints={"text": "1"}, calibration_json=calibration.to_json()
    ) as catalog:
        catalog.add(
            CatalogItem(
                str(n), "text",
                [Segment("text", row, 0.0, 3.0, "x", label)
                 for row, label in zip(rows, ("title", "body"), strict=True) if np.isfinite(row).all()],
            )
            for n, rows in enumerate(gallery)
        )  # fmt: skip
        found = catalog.search(queries, query_modality="image", k=20, document_vectors=readings)
    for row, hits in zip(odds @ items.T, found, strict=True):
        assert [int(hit.uri) for hit in hits] == np.argsort(-row, kind="stable").tolist()
        expected = 1 / (1 + np.exp(-np.sort(row)[::-1]))
        np.testing.assert_allclose([hit.probability for hit in hits], expected, rtol=0.02)
    gallery[7] = np.nan
    queries[1] = np.nan
    odds, items = document_search(queries, readings, gallery, calibration, "image")
    assert np.isnan(items[7]).all()
    assert np.isnan(odds).all(axis=1).tolist() == [False, True, False]


def test_items_of_a_modality_from_elsewhere_are_encoded_by_the_space_itself(tmp_path: Path) -> None:
    class DepthSpace(FakeSpace):
        def encode(self, items: Any) -> np.ndarray:
            return np.stack([vector_of(Path(item["depth"]).name) for item in items])

    items = [EvalItem(name, f"{name}.npy", name, {}) for name in ("near", "far")]
    rows = SuiteEncoder(DepthSpace(), tmp_path).encode(items, "depth")
    np.testing.assert_allclose(rows, [vector_of("near.npy"), vector_of("far.npy")], atol=1e-6)
