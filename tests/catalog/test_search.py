"""Search: exact against brute force, indexes and their freshness, filters, interleaving, one hit an item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.calibration.background import Background, background_of
from embedspace.calibration.model import Calibration, MatchModel, PairCalibration
from embedspace.catalog import Catalog, CatalogItem, Hit, IndexSettings
from embedspace.catalog.index.base import Nearest
from embedspace.catalog.index.local import LocalIndex
from embedspace.catalog.index.parts import PACKED
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.sampling.sample import sample_of
from embedspace.catalog.search.ranking import Scan, standardised
from embedspace.errors import InputError
from embedspace.segment import Segment
from tests.support.catalog_encoder import EMBED_DIM, HashEncoder, new_catalog, random_units, unit, vector_items

HNSW = IndexSettings(name="hnsw", index="hnsw", quantizer="none", min_vectors=100, exact_below=20, ef_search=200)
IVF = IndexSettings(name="ivf", index="ivf", quantizer="sq8", min_vectors=100, exact_below=20, nlist=16, nprobe=16)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "c.catalog") as opened:
        yield opened


def brute_force(catalog: Catalog, query: NDArray[np.float32], k: int, allowed: set[str] | None = None) -> list[str]:
    """Ids of the k best items: the best of an item's segments, ties by id."""
    ids, vectors = catalog.vectors()
    best: dict[str, float] = {}
    for one, score in zip(ids, (vectors @ query).round(6).tolist(), strict=True):
        if allowed is None or one in allowed:
            best[one] = max(best.get(one, -2.0), score)
    return [one for one, _ in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]]


def ids_of(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("per_item", [1, 7])
@pytest.mark.parametrize("queries", [1, 9])
def test_search_equals_brute_force(catalog: Catalog, per_item: int, queries: int) -> None:
    catalog.add(vector_items(random_units(1500), per_item=per_item))
    some = random_units(queries, seed=1)
    for query, hits in zip(some, catalog.search(some, query_modality="text", k=20), strict=True):
        assert ids_of(hits) == brute_force(catalog, query, 20)
        assert [hit.rank for hit in hits] == list(range(1, 21))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_search_over_many_blocks_equals_brute_force(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.catalog.index.exact._BLOCK", 13)
    catalog.add(vector_items(random_units(400), per_item=5))
    query = random_units(1, seed=2)
    assert ids_of(catalog.search(query, query_modality="text", k=30)[0]) == brute_force(catalog, query[0], 30)


def test_search_from_disk_equals_search_from_memory(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = random_units(900)
    catalog.add(vector_items(vectors[:600]))
    catalog.optimize()
    catalog.add(vector_items(vectors[600:], first=600))
    query = random_units(1, seed=3)
    in_memory = catalog.search(query, query_modality="text", k=25)[0]
    monkeypatch.setattr("embedspace.catalog.index.local.SMALL", 0)
    monkeypatch.setattr("embedspace.catalog.index.exact._BLOCK", 77)
    with Catalog.open(catalog.path) as other:
        assert other.search(query, query_modality="text", k=25)[0] == in_memory


def test_search_ties_are_broken_by_id(catalog: Catalog) -> None:
    vector = unit("same")
    segment = Segment("image", vector)
    catalog.add(CatalogItem(f"item/{n}", "image", [segment], content_hash=f"{n:032x}") for n in range(50))
    hits = catalog.search(vector, query_modality="image", k=7)[0]
    assert ids_of(hits) == [f"{n:032x}" for n in range(7)]


def test_search_hit_says_where(catalog: Catalog) -> None:
    segments = [Segment("audio", unit(f"s{n}"), n * 5.0, n * 5.0 + 10, f"part {n}", "field") for n in range(40)]
    catalog.add([CatalogItem("/long.wav", "audio", segments, {"title": "long"})])
    catalog.add(vector_items(random_units(30), "audio"))
    hits = catalog.search(unit("s12"), query_modality="text", k=10)[0]
    first = hits[0]
    assert (first.uri, first.start, first.end, first.text, first.label) == ("/long.wav", 60.0, 70.0, "part 12", "field")
    assert first.metadata == {"title": "long"}
    assert len({hit.id for hit in hits}) == len(hits) == 10  # one hit an item, however many of its segments are close


def test_search_documents_by_their_own_vectors(catalog: Catalog) -> None:
    """Fields and long passages are searched by `document_vectors` as well; captions and other modalities are not."""
    caption, drawn = unit("caption"), unit("drawn")
    rows = {"caption": (None, None, "", caption), "field": (0.0, 5.0, "title", drawn), "short": (0.0, 60.0, "", drawn)}
    rows |= {"passage": (0.0, 900.0, "", drawn), "field like the caption": (0.0, 5.0, "title", caption)}
    catalog.add(
        CatalogItem(name, "text", [Segment("text", vector, start, end, name, label)])
        for name, (start, end, label, vector) in rows.items()
    )
    catalog.add([CatalogItem("/picture.png", "image", [Segment("image", drawn)])])
    hits = catalog.search(caption, query_modality="image", k=9, document_vectors=drawn)[0]
    found = {hit.uri: hit.score for hit in hits}
    assert len(found) == 6
    same = float(caption @ drawn)
    expected = {"caption": 1.0, "field": 1.0, "passage": 1.0, "field like the caption": 1.0, "short": same}
    assert found == pytest.approx(expected | {"/picture.png": same}, abs=1e-3)
    plain = {hit.uri: hit.score for hit in catalog.search(caption, query_modality="image", k=9)[0]}
    assert plain["field"] == pytest.approx(same, abs=1e-3)
    filtered = catalog.search(caption, query_modality="image", where="label = 'title'", document_vectors=drawn)[0]
    assert {hit.uri: round(hit.score, 2) for hit in filtered} == {"field": 1.0, "field like the caption": 1.0}
    catalog.remove(uris=["field"])
    left = catalog.search(caption, query_modality="image", k=9, document_vectors=drawn)[0]
    assert {hit.uri for hit in left} == set(found) - {"field"}
    with pytest.raises(InputError, match="1 queries but 2 document vectors"):
        catalog.search(caption, query_modality="image", document_vectors=np.stack([drawn, drawn]))
    with pytest.raises(InputError, match=r"document vectors of shape .*expected finite"):
        catalog.search(caption, query_modality="image", document_vectors=np.full_like(drawn, np.nan))


def test_a_document_is_as_likely_as_its_reading_times_how_well_it_fits(tmp_path: Path) -> None:
    pie, pizza, other = unit("pie"), unit("pizza"), unit("other")
    query = -(pie + pizza + other)  # by itself it finds none of them
    rows = {"a pie": pie, "a pizza": pizza, "another": other}
    model = MatchModel(11.0, 5.0, -4.0, 9.0, 12.0, -0.3, -6.0)
    text = Calibration(pairs={"image>text": PairCalibration(model=model)}).to_json()
    versions = HashEncoder().fingerprints()
    with Catalog.create(
        tmp_path / "c.catalog", embed_dim=EMBED_DIM, fingerprints=versions, calibration_json=text
    ) as catalog:
        assert not catalog.has_documents()
        catalog.add(
            [CatalogItem(name, "text", [Segment("text", row, 0.0, 5.0, name, "title")]) for name, row in rows.items()]
        )
        assert catalog.has_documents()

        def probabilities(*readings: np.ndarray) -> dict[str, float]:
            hits = catalog.search(query, query_modality="image", document_vectors=np.stack(readings)[None])[0]
            return {hit.uri: hit.probability for hit in hits}

        plain = {hit.uri: hit.probability for hit in catalog.search(query, query_modality="image")[0]}
        sure = probabilities(pie)["a pie"]
        shared = probabilities(0.7 * pie, 0.3 * pizza, 0 * other)
        assert list(shared)[:2] == ["a pie", "a pizza"]
        assert shared["a pie"] == pytest.approx(0.7 * sure, rel=1e-4)
        assert shared["a pizza"] == pytest.approx(0.3 * probabilities(pizza)["a pizza"], rel=1e-4)
        assert shared["another"] >= plain["another"]
        assert list(probabilities(0.3 * pie, 0.7 * pizza))[:2] == ["a pizza", "a pie"]


def test_search_empty_catalog_and_missing_modality(catalog: Catalog) -> None:
    assert catalog.search(unit("q"), query_modality="text") == [[]]
    catalog.add(vector_items(random_units(3)))
    assert catalog.search(unit("q"), query_modality="text", to="audio") == [[]]
    assert len(catalog.search(unit("q"), query_modality="text", to=["audio", "image"])[0]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": np.zeros(EMBED_DIM)}, "zero or not finite"),
        ({"vectors": np.full(EMBED_DIM, np.nan)}, "zero or not finite"),
        ({"vectors": np.ones(3)}, "shape"),
        ({"k": 0}, "at least 1"),
        ({"to": "smell"}, "unknown modality 'smell'; known: image, audio, text, speech"),
        ({"min_probability": 2.0}, "between 0 and 1"),
        ({"query_modality": ["text", "text"]}, "1 queries but 2"),
    ],
)
def test_search_refuses_wrong_arguments(catalog: Catalog, arguments: dict[str, object], message: str) -> None:
    given = {"vectors": unit("q"), "query_modality": "text"} | arguments
    with pytest.raises(InputError, match=message):
        catalog.search(**given)  # type: ignore[arg-type]


# -- calibration -----------------------------------------------------------------------------------------------------


def calibrated(path: Path) -> Catalog:
    pairs = {
        "text>image": PairCalibration(0.0, 0.1, slope=20.0, intercept=-2.0),  # cosines of pictures are low
        "text>audio": PairCalibration(0.5, 0.1, slope=20.0, intercept=-14.0),  # those of sounds are high
    }
    text = Calibration(pairs=pairs).to_json()
    return Catalog.create(path, embed_dim=2, fingerprints=HashEncoder().fingerprints(), calibration_json=text)


def at(cosine: float) -> NDArray[np.float32]:
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


def test_search_interleaves_modalities_by_evidence(tmp_path: Path) -> None:
    with calibrated(tmp_path / "c.catalog") as catalog:
        for modality, cosines in {"image": (0.3, 0.2, 0.1), "audio": (0.95, 0.85, 0.75)}.items():
            catalog.add(CatalogItem(f"{modality}/{c}", modality, [Segment(modality, at(c))]) for c in cosines)
        hits = catalog.search(at(1.0), query_modality="text", k=6)[0]
        assert [hit.uri for hit in hits] == [
            "audio/0.95", "image/0.3", "audio/0.85", "image/0.2", "audio/0.75", "image/0.1"
        ]  # fmt: skip
        expected = 1 / (1 + np.exp(-(20 * hits[1].score - 2 - np.log(3))))
        assert hits[1].probability == pytest.approx(expected, abs=1e-6)
        likely = catalog.search(at(1.0), query_modality="text", min_probability=0.5)[0]
        assert likely and all((hit.probability or 0) >= 0.5 for hit in likely) and len(likely) < 6
        assert catalog.search(at(-1.0), query_modality="text", min_probability=0.5) == [[]]


def test_search_composed_query_uses_the_mean_of_known_pairs(tmp_path: Path) -> None:
    with calibrated(tmp_path / "c.catalog") as catalog:
        catalog.add([CatalogItem("image", "image", [Segment("image", at(0.3))])])
        mixed, text = (catalog.search(at(1.0), query_modality=name)[0][0] for name in ("mixed", "text"))
        assert mixed.probability == text.probability


def test_search_without_calibration_ranks_by_what_stands_out_in_its_modality(catalog: Catalog) -> None:
    rng = np.random.default_rng(0)
    query = unit("q")

    def leaning(cosine: float) -> NDArray[np.float32]:
        across = rng.normal(size=EMBED_DIM)
        across -= (across @ query) * query
        return (cosine * query + np.sqrt(1 - cosine**2) * across / np.linalg.norm(across)).astype(np.float32)

    low, high = rng.normal(0.1, 0.03, 200), rng.normal(0.6, 0.03, 200)
    for modality, cosines in {"image": [*low, 0.3], "audio": [*high, 0.72]}.items():
        catalog.add(
            CatalogItem(f"{modality}/{n}", modality, [Segment(modality, leaning(float(c)))])
            for n, c in enumerate(cosines)
        )
    hits = catalog.search(query, query_modality="text", k=50)[0]
    assert [hit.uri for hit in hits[:2]] == ["image/200", "audio/200"]  # the greatest cosines are all of sounds
    assert {hit.probability for hit in hits} == {None}
    for modality in ("image", "audio"):
        scores = [hit.score for hit in hits if hit.modality == modality]
        assert scores and scores == sorted(scores, reverse=True)
    alone = catalog.search(query, query_modality="text", to="audio", k=5)[0]
    assert [hit.id for hit in alone] == [hit.id for hit in hits if hit.modality == "audio"][:5]


def test_standardised_scores_compare_each_with_the_others() -> None:
    def scan(modality: str, scores: list[float], size: int, mean: float, std: float) -> Scan:
        none = np.zeros(0, np.int64)
        background = Background(size, mean, std, 0.0)
        return Scan(modality, Nearest(none, none.astype(np.uint64), np.float32(scores), background))

    many = scan("image", [0.4, 0.2], 1000, 0.1, 0.1)
    alone = scan("audio", [0.4], 1, 0.4, 0.0)  # nothing of its own modality to compare it with
    first, second = standardised([many, alone])
    assert first == pytest.approx([3.0, 1.0], abs=0.05)
    assert second == pytest.approx([(0.4 - 100.4 / 1001) / (10 / 1001) ** 0.5])
    (pair,) = standardised([scan("image", [0.5, 0.25], 2, 0.375, 0.125)])
    # each against the other one, and four more with the mean and variance of both
    scale = (4 * 0.125**2 / 5) ** 0.5
    assert pair == pytest.approx([(0.5 - (0.25 + 4 * 0.375) / 5) / scale, (0.25 - (0.5 + 4 * 0.375) / 5) / scale])
    (equal,) = standardised([scan("image", [0.5, 0.5], 2, 0.5, 0.0)])
    assert equal == pytest.approx([0.0, 0.0])
    assert np.isfinite(standardised([scan("image", [], 0, 0.0, 0.0)])[0]).all()


@pytest.mark.parametrize("count", [2, 3, 10, 300])
def test_standardised_scores_keep_the_order_of_the_cosines(count: int) -> None:
    rng = np.random.default_rng(count)
    none = np.zeros(0, np.int64)
    scans = []
    for modality, offset in (("image", 0.0), ("audio", 0.5), ("text", 0.2)):
        scores = np.sort(np.clip(rng.normal(offset, 0.2, count), -1, 1))[::-1].astype(np.float32)
        (background,) = background_of(scores, count)
        scans.append(Scan(modality, Nearest(none, none.astype(np.uint64), scores, background)))
    for values in standardised(scans):
        assert len(values) == count and (np.diff(values) <= 0).all() and values[0] > values[-1]


def test_search_without_calibration_finds_an_exact_match_among_few(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(500)))
    for name in ("grass", "rain", "door"):
        catalog.add([CatalogItem(name, "text", [Segment("text", unit(name))])])
    for name in ("grass", "rain", "door"):
        assert catalog.search(unit(name), query_modality="text", k=1)[0][0].uri == name


def test_search_withholds_probabilities_where_a_modality_has_none(tmp_path: Path) -> None:
    with calibrated(tmp_path / "c.catalog") as catalog:
        for modality, cosine in (("image", 0.3), ("audio", 0.9), ("text", 0.5)):
            catalog.add([CatalogItem(modality, modality, [Segment(modality, at(cosine))])])
        assert {hit.probability for hit in catalog.search(at(1.0), query_modality="text")[0]} == {None}
        known = catalog.search(at(1.0), query_modality="text", to=["image", "audio"])[0]
        chances = [hit.probability for hit in known if hit.probability is not None]
        assert len(chances) == 2 and chances == sorted(chances, reverse=True)
        assert catalog.search(at(1.0), query_modality="text", to="audio", min_probability=0.5)[0]
        with pytest.raises(InputError, match="no probabilities for text>text: it was not calibrated"):
            catalog.search(at(1.0), query_modality="text", min_probability=0.5)
        catalog.remove("kind = 'text'")  # a modality that holds nothing withholds nothing
        assert catalog.search(at(1.0), query_modality="text", min_probability=0.5)[0]


FITTED = {
    "text>image": PairCalibration(model=MatchModel(30.0, 5.0, -20.0, -2.0, 1.0, -0.1, -2.0)),
    "text>audio": PairCalibration(model=MatchModel(12.0, 2.0, -8.0, 0.0, 0.0, -0.3, -1.0)),
}


def fitted(path: Path, settings: IndexSettings | None = None) -> Catalog:
    text = Calibration(pairs=FITTED).to_json()
    versions = HashEncoder().fingerprints()
    return Catalog.create(path, embed_dim=EMBED_DIM, fingerprints=versions, calibration_json=text, settings=settings)


def test_search_sorts_by_what_it_shows(tmp_path: Path) -> None:
    with fitted(tmp_path / "c.catalog") as catalog:
        catalog.add(vector_items(random_units(300), per_item=2))
        catalog.add(vector_items(random_units(200, seed=8), "audio", first=300))
        for hits in catalog.search(random_units(30, seed=9), query_modality="text", k=40):
            assert {hit.modality for hit in hits} == {"image", "audio"}
            chances = [hit.probability for hit in hits]
            assert chances == sorted(chances, reverse=True)
            for modality in ("image", "audio"):
                scores = [hit.score for hit in hits if hit.modality == modality]
                assert scores == sorted(scores, reverse=True)


def test_search_measures_the_background_of_the_whole_gallery(tmp_path: Path) -> None:
    with fitted(tmp_path / "c.catalog") as catalog:
        vectors = random_units(300)
        catalog.add(vector_items(vectors, per_item=1))
        catalog.remove("number < 20")
        query = random_units(1, seed=9)
        hits = catalog.search(query, query_modality="text", k=5)[0]
        scores = np.sort(catalog.vectors()[1] @ query[0])[::-1]
        (background,) = background_of(scores, 280)
        expected = Calibration(pairs=FITTED).probability(scores, "text", "image", background)[:5]
        assert [hit.probability for hit in hits] == pytest.approx(expected.tolist(), abs=1e-5)
        one = catalog.search(query, query_modality="text", k=1)[0]
        assert [hit.probability for hit in one] == [hits[0].probability]  # however many are shown
        number = hits[0].metadata["number"]
        among = catalog.search(query, query_modality="text", where=f"number <= {number}", k=3)[0]
        # a filter takes rivals away, and nothing else
        assert among[0].id == hits[0].id and among[0].probability >= hits[0].probability


@pytest.mark.parametrize("settings", [IndexSettings(), HNSW, IVF], ids=lambda settings: settings.name)
def test_search_by_an_index_or_a_filter_shows_nearly_the_same_probabilities(
    tmp_path: Path, settings: IndexSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedspace.catalog.index.sampling.sample.SAMPLE", 700)
    queries = random_units(20, seed=10)
    with fitted(tmp_path / "exact.catalog") as exact, fitted(tmp_path / "c.catalog", settings) as catalog:
        for opened in (exact, catalog):
            opened.add(vector_items(random_units(2000)))
        wanted = exact.search(queries, query_modality="text", k=5)
        for where in (None, "number >= 0"):
            found = catalog.search(queries, query_modality="text", k=5, where=where)
            for one, other in zip(wanted, found, strict=True):
                if one[0].id == other[0].id:
                    assert one[0].probability == pytest.approx(other[0].probability, abs=1e-4)


def rows_of(catalog: Catalog, modality: str = "image") -> Rows:
    index = catalog._index.current()
    assert isinstance(index, LocalIndex)
    return index.rows(modality)


def test_sample_is_fixed_and_holds_whole_living_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.catalog.index.sampling.sample.SAMPLE", 50)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        catalog.add(vector_items(random_units(600), per_item=3))
        before = rows_of(catalog)
        first = sample_of(before)
        assert len(first.starts) == 50 and len(first.rows) == 150
        assert (np.bincount(before.item[first.rows])[np.unique(before.item[first.rows])] == 3).all()
        dead = int(before.item[first.rows[0]])
        catalog.remove(f"number = {catalog_number(catalog, dead)}")
        after = rows_of(catalog)
        second = sample_of(after)
        kept = set(before.item[first.rows]) & set(after.item[second.rows])
        assert len(kept) == 49 and dead not in after.item[second.rows]


def catalog_number(catalog: Catalog, item: int) -> int:
    ((metadata,),) = catalog.store.rows("SELECT metadata FROM items WHERE item = ?", (item,))
    return int(json.loads(metadata)["number"])


def test_search_item_in_two_modalities_is_one_hit(tmp_path: Path) -> None:
    with new_catalog(tmp_path / "c.catalog") as catalog:
        catalog.add([CatalogItem("a.wav", "audio", [Segment("audio", unit("a")), Segment("speech", unit("b"))])])
        hits = catalog.search(unit("b"), query_modality="text")[0]
        assert [(hit.uri, hit.modality) for hit in hits] == [("a.wav", "speech")]


def test_videos_without_probabilities_take_none_from_a_search_over_everything(tmp_path: Path) -> None:
    pairs = {f"{query}>image": PairCalibration(0.0, 0.2, 40.0, -24.0) for query in ("text", "video")}
    with new_catalog(tmp_path / "c.catalog") as catalog:
        catalog.adopt_fingerprints({}, Calibration({}, pairs).to_json())
        segments = [Segment("video", unit("moves"), 0.0, 4.0), Segment("image", unit("frame"), 0.0, 9.0)]
        catalog.add([CatalogItem("a.mp4", "video", segments)])
        (hit,) = catalog.search(unit("moves"), query_modality="text")[0]
        assert hit.modality == "image" and hit.probability is not None
        (hit,) = catalog.search(unit("moves"), query_modality="text", to="video")[0]
        assert (hit.modality, hit.probability, hit.start) == ("video", None, 0.0) and hit.score > 0.99
        (hit,) = catalog.search(unit("moves"), query_modality="audio")[0]  # nothing is rated: everything is searched
        assert (hit.modality, hit.probability) == ("video", None)
        catalog.adopt_fingerprints({}, Calibration({}, {**pairs, "text>video": pairs["text>image"]}).to_json())
        (hit,) = catalog.search(unit("moves"), query_modality="text")[0]
        assert hit.modality == "video" and hit.probability is not None


# -- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [IndexSettings(), HNSW, IVF], ids=lambda settings: settings.name)
@pytest.mark.parametrize("where", ["number < 15", "even = true", "number in (3, 999, 500) or number >= 995"])
def test_search_filtered_equals_brute_force(tmp_path: Path, settings: IndexSettings, where: str) -> None:
    with new_catalog(tmp_path / "c.catalog", settings) as catalog:
        catalog.add(vector_items(random_units(1000)))
        query = random_units(1, seed=4)
        allowed = {item.id for item in catalog.items(where)}
        found = ids_of(catalog.search(query, query_modality="text", k=10, where=where)[0])
        wanted = brute_force(catalog, query[0], 10, allowed)
        if len(allowed) <= 20 or (settings.index == "ivf" and settings.min_vectors > 1000):
            assert found == wanted  # selective: exact whatever the index
        assert set(found) <= allowed and len(set(found) & set(wanted)) >= 0.8 * len(wanted)


def test_search_filter_follows_changes(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(10)))
    assert len(catalog.search(unit("q"), query_modality="text", k=99, where="number < 5")[0]) == 5
    catalog.add(vector_items(random_units(2, seed=9), first=0))
    assert len(catalog.search(unit("q"), query_modality="text", k=99, where="number < 5")[0]) == 5
    catalog.remove("number = 2")
    assert len(catalog.search(unit("q"), query_modality="text", k=99, where="number < 5")[0]) == 4


# -- indexes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [HNSW, IVF], ids=lambda settings: settings.name)
def test_index_finds_what_exact_finds_and_scores_exactly(tmp_path: Path, settings: IndexSettings) -> None:
    with new_catalog(tmp_path / "c.catalog", settings) as catalog:
        catalog.add(vector_items(random_units(2000), per_item=2))
        catalog.optimize()
        queries = random_units(20, seed=5)
        overlap = 0
        for query, hits in zip(queries, catalog.search(queries, query_modality="text", k=10), strict=True):
            overlap += len(set(ids_of(hits)) & set(brute_force(catalog, query, 10)))
            for hit in hits:
                _, vectors = catalog.vectors(ids=[hit.id])
                assert hit.score == pytest.approx(float((vectors @ query).max()), abs=1e-5)
        assert overlap >= 190
        assert (catalog.store.folder / "image.faiss").exists()


@pytest.mark.parametrize("settings", [HNSW, IVF], ids=lambda settings: settings.name)
def test_index_newer_rows_are_found_beside_it(tmp_path: Path, settings: IndexSettings) -> None:
    with new_catalog(tmp_path / "c.catalog", settings) as catalog:
        catalog.add(vector_items(random_units(500)))
        catalog.optimize()
        built = (catalog.store.folder / "image.faiss").read_bytes()
        fresh = random_units(20, seed=6)
        catalog.add(vector_items(fresh, first=500))
        for number, vector in enumerate(fresh):
            hit = catalog.search(vector, query_modality="image", k=1)[0][0]
            assert hit.uri == f"item/{500 + number}"
        assert (catalog.store.folder / "image.faiss").read_bytes() == built
        with Catalog.open(catalog.path) as other:  # in a new process, too
            assert other.search(fresh[3], query_modality="image", k=1)[0][0].uri == "item/503"


@pytest.mark.parametrize("settings", [HNSW, IVF], ids=lambda settings: settings.name)
def test_index_never_finds_deleted_rows(tmp_path: Path, settings: IndexSettings) -> None:
    with new_catalog(tmp_path / "c.catalog", settings) as catalog:
        vectors = random_units(500)
        catalog.add(vector_items(vectors))
        catalog.optimize()
        assert catalog.search(vectors[7], query_modality="image", k=1)[0][0].uri == "item/7"
        assert catalog.remove("number between 0 and 9").items == 10
        for opened in (catalog, Catalog.open(catalog.path)):
            hits = opened.search(vectors[:10], query_modality="image", k=50)
            assert all(hit.metadata["number"] >= 10 for found in hits for hit in found)
            assert all(len(found) == 50 for found in hits)


def test_index_is_rebuilt_when_much_is_newer(tmp_path: Path) -> None:
    with new_catalog(tmp_path / "c.catalog", HNSW) as catalog:
        catalog.add(vector_items(random_units(200)))
        catalog.optimize()
        catalog.add(vector_items(random_units(200, seed=7), first=200))
        catalog.optimize()
        assert catalog.info().indexes["image"] == "hnsw, none: 400 vectors, built at 400"


def test_optimize_builds_an_index_that_is_missing(tmp_path: Path) -> None:
    with new_catalog(tmp_path / "c.catalog", HNSW) as catalog:
        catalog.add(vector_items(random_units(400)))
    (tmp_path / "c.catalog" / "image.faiss").unlink()
    with Catalog.open(tmp_path / "c.catalog") as catalog:
        catalog.optimize()
        assert (tmp_path / "c.catalog" / "image.faiss").exists()


@pytest.mark.parametrize("settings", [HNSW, IVF], ids=lambda settings: settings.name)
@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated", "flipped", "of another catalog"])
def test_index_that_is_unusable_is_rebuilt(tmp_path: Path, damage: str, settings: IndexSettings) -> None:
    vectors = random_units(400)
    with new_catalog(tmp_path / "c.catalog", settings) as catalog:
        catalog.add(vector_items(vectors))
    file = tmp_path / "c.catalog" / "image.faiss"
    content = file.read_bytes()
    match damage:
        case "missing":
            file.unlink()
        case "garbage":
            file.write_bytes(b"garbage" * 100)
        case "truncated":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            file.write_bytes(content[:1200] + bytes([content[1200] ^ 255]) + content[1201:])
        case _:
            with new_catalog(tmp_path / "d.catalog", settings) as other:
                other.add(vector_items(random_units(400, seed=8)))
            for name in ("image.faiss", "image.json") if settings is HNSW else ("image.faiss",):
                (tmp_path / "c.catalog" / name).write_bytes((tmp_path / "d.catalog" / name).read_bytes())
    with Catalog.open(tmp_path / "c.catalog") as catalog:
        for number in (0, 99, 399):
            assert catalog.search(vectors[number], query_modality="image", k=1)[0][0].uri == f"item/{number}"
        catalog.optimize()
        assert catalog.info().indexes["image"].startswith(f"{settings.name}, {settings.quantizer}: 400 vectors")


# -- the packed file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["none", "missing", "garbage", "truncated", "flipped", "old", "of another catalog"])
def test_packed_file_never_changes_what_is_found(tmp_path: Path, damage: str) -> None:
    vectors = random_units(300)
    path = tmp_path / "c.catalog"
    with new_catalog(path) as catalog:
        catalog.add(vector_items(vectors[:200]))
    old = (path / PACKED).read_bytes()
    with Catalog.open(path) as catalog:
        catalog.add(vector_items(vectors[200:], first=200))
        catalog.remove("number < 5")
    content = (path / PACKED).read_bytes()
    match damage:
        case "missing":
            (path / PACKED).unlink()
        case "garbage":
            (path / PACKED).write_bytes(b"EMBSPACK" + b"\xff" * 50)
        case "truncated":
            (path / PACKED).write_bytes(content[:-10])
        case "flipped":
            (path / PACKED).write_bytes(content[:-3000] + bytes([content[-3000] ^ 255]) + content[-2999:])
        case "old":
            (path / PACKED).write_bytes(old)
        case "of another catalog":
            with new_catalog(tmp_path / "d.catalog") as other:
                other.add(vector_items(random_units(300, seed=1)))
            (path / PACKED).write_bytes((tmp_path / "d.catalog" / PACKED).read_bytes())
    for read_only in (True, False):
        with Catalog.open(path, read_only=read_only) as catalog:
            query = random_units(1, seed=11)
            assert ids_of(catalog.search(query, query_modality="text", k=400)[0]) == brute_force(catalog, query[0], 400)
            assert len(catalog.search(query, query_modality="text", k=400)[0]) == 295


def test_search_sees_what_another_connection_writes(catalog: Catalog) -> None:
    catalog.add(vector_items(random_units(50)))
    catalog.search(unit("q"), query_modality="text")
    with Catalog.open(catalog.path) as other:
        other.add([CatalogItem("new", "image", [Segment("image", unit("new"))])])
        assert catalog.search(unit("new"), query_modality="text", k=1)[0][0].uri == "new"
        other.remove(uris=["new"])
        assert catalog.search(unit("new"), query_modality="text", k=1)[0][0].uri != "new"


def test_search_from_many_threads_while_items_are_added(catalog: Catalog) -> None:
    vectors = random_units(600)
    catalog.add(vector_items(vectors[:100]))
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(catalog.search, vectors[at % 100], query_modality="image", k=5) for at in range(200)]
        for first in range(100, 600, 100):
            catalog.add(vector_items(vectors[first : first + 100], first=first))
            catalog.remove(f"number = {first}")
        for at, search in enumerate(searches):
            assert search.result()[0][0].uri == f"item/{at % 100}"
    assert len(catalog) == 595
