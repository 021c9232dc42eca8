"""Connectors are fitted on texts alone: planted maps are found, held-out texts are really held out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.encoders.connectors import METHODS
from embedspace.errors import ConfigError, InputError
from embedspace.train.connect import (
    ConnectSettings,
    composing_texts,
    fit_connector,
    nearest_texts,
    negatives_outside,
    procrustes,
    ridge,
    withhold,
)
from embedspace.train.connect.texts import distinct_pairs, split_pairs

Rows = NDArray[np.float32]
FITTED = [method for method in METHODS if method != "identity"]


def unit(x: NDArray[Any]) -> Rows:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def rows(count: int, dim: int, seed: int = 0) -> Rows:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


def rotation(in_dim: int, embed_dim: int) -> NDArray[np.float64]:
    """Return (in_dim, embed_dim) with orthonormal rows, or columns where it is narrower."""
    left, _, right = np.linalg.svd(np.random.default_rng(9).standard_normal((in_dim, embed_dim)), full_matrices=False)
    return np.asarray(left @ right)


def settings(method: str, **more: Any) -> ConnectSettings:
    return ConnectSettings(method, steps=20, batch_size=64, hidden_dim=32, neighbours=10, atoms=50, **more)


@pytest.mark.parametrize("widths", [(16, 16), (16, 24)])
def test_procrustes_recovers_a_planted_rotation(widths: tuple[int, int]) -> None:
    planted = rotation(*widths)
    x = rows(400, widths[0]) + np.float32(0.2)
    fitted = fit_connector(unit(x), unit(unit(x) @ planted), settings("procrustes"))
    assert fitted.connector.linear is not None
    np.testing.assert_allclose(fitted.connector.linear.weight.T, planted, atol=1e-5)
    assert fitted.report.recall_at_1 == 1.0
    assert (fitted.report.texts, fitted.report.held_out, fitted.report.chance_at_10) == (400, 40, 0.25)


def test_procrustes_to_a_narrower_space_keeps_what_fits() -> None:
    planted = rotation(24, 16)
    x = rows(600, 24)
    found = procrustes(torch.from_numpy(x), torch.from_numpy(x @ planted.astype(np.float32)))
    np.testing.assert_allclose(found.T @ found, np.eye(16), atol=1e-5)  # columns stay orthonormal
    fitted = fit_connector(x, unit(x @ planted), settings("procrustes"))
    assert fitted.report.recall_at_1 > 0.9
    assert fitted.connector.connect(x).shape == (600, 16)


def test_procrustes_is_the_best_rotation() -> None:
    x, y = torch.from_numpy(rows(200, 8)), torch.from_numpy(rows(200, 8, seed=1))
    best = float((x @ procrustes(x, y) - y).norm())
    for seed in range(20):
        other, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((8, 8)))
        assert float((x @ torch.from_numpy(other).float() - y).norm()) > best


def test_ridge_solves_its_normal_equations() -> None:
    x, y = torch.from_numpy(rows(300, 8)), torch.from_numpy(rows(300, 6, seed=1))
    found = ridge(x, y, 0.5)
    # the gradient of |x W - y|^2 + 0.5 * 300 / 8 * |W|^2 is zero
    torch.testing.assert_close(x.T @ (x @ found - y) + 0.5 * 300 / 8 * found, torch.zeros(8, 6), atol=1e-4, rtol=0)
    assert float(ridge(x, y, 100.0).norm()) < float(found.norm()) < float(ridge(x, y, 1e-6).norm())


def test_weights_count_like_repeated_rows() -> None:
    x, y = torch.from_numpy(rows(60, 8)), torch.from_numpy(rows(60, 6, seed=1))
    times = torch.arange(60) % 3 + 1
    weights = times / times.double().mean()
    again = [rows.repeat_interleave(times, dim=0) for rows in (x, y)]
    torch.testing.assert_close(procrustes(x, y, weights), procrustes(*again), atol=1e-5, rtol=0)
    torch.testing.assert_close(ridge(x, y, 0.5, weights), ridge(*again, 0.5), atol=1e-5, rtol=0)


def test_nearest_texts_by_hand() -> None:
    x = rows(50, 4)
    x[7] = np.nan
    media = {"audio": rows(25, 4, seed=1), "image": rows(25, 4, seed=2)}
    texts = unit(x - np.nanmean(x, axis=0))
    near = np.max([texts @ unit(some - some.mean(axis=0)).T for some in media.values()], axis=(0, 2))
    expected = sorted(np.argsort(-np.nan_to_num(near, nan=-9))[:10].tolist())
    assert nearest_texts(x, media, 10).tolist() == expected
    assert nearest_texts(x, media, 99).tolist() == [k for k in range(50) if k != 7]
    with pytest.raises(InputError, match="no media to be near to"):
        nearest_texts(x, {}, 10)


def test_composing_texts_are_those_that_media_are_made_of() -> None:
    """Texts half way between two that media are made of are nearer to some, and explain none."""
    ends = np.eye(40, dtype=np.float32)
    between = unit(ends + np.roll(ends, 7, axis=0))
    media = {"image": unit(np.random.default_rng(5).dirichlet(np.full(40, 0.1), 200).astype(np.float32) @ ends)}
    source = np.concatenate([ends, between, unit(-media["image"][:40])])
    assert composing_texts(source, media, 40).tolist() == list(range(40))
    assert max(nearest_texts(source, media, 40)) > 40
    with pytest.raises(InputError, match="no media"):
        composing_texts(source, {}, 10)


def test_focus_makes_the_map_best_where_the_media_are() -> None:
    # two halves of the texts, each turned otherwise; the media lie among the first half
    away = 1.5 * np.eye(8)[:1]
    first, second = unit(rows(300, 8) + away), unit(rows(300, 8, seed=1) - away)
    turned = [unit(first @ rotation(8, 8)), unit(second @ rotation(8, 8)[::-1])]
    media, asked = unit(rows(200, 8, seed=2) + away), unit(rows(100, 8, seed=3) + away)
    wanted = unit(asked @ rotation(8, 8))

    def cosine(focus: float) -> float:
        given = settings("procrustes", focus=focus)
        fitted = fit_connector(np.concatenate([first, second]), np.concatenate(turned), given, media={"image": media})
        x = unit(asked - media.mean(axis=0))
        y = unit(wanted - unit(media @ rotation(8, 8)).mean(axis=0))
        assert fitted.connector.linear is not None
        return float(np.sum(x @ fitted.connector.linear.weight.T.numpy() * y, axis=1).mean())

    assert cosine(0.05) > cosine(0) + 0.05


def test_negatives_outside_by_hand() -> None:
    similarity = torch.tensor([[0.5, 0.46, 0.2], [0.04, 1.0, 0.11], [0.3, -0.1, -0.2]])
    # window of row 0: 0.05 to 0.45; of row 1: 0.1 to 0.9; a negative positive has no window but zero
    expected = [[False, True, False], [True, False, False], [True, True, False]]
    assert negatives_outside(similarity, (0.1, 0.9)).tolist() == expected


def test_ridge_chooses_a_strong_one_where_there_is_much_noise() -> None:
    x = rows(150, 64)
    noisy = x @ rotation(64, 64) + 2 * rows(150, 64, seed=3)
    chosen = fit_connector(x, unit(noisy), settings("ridge", strengths=(1e-6, 1.0))).report.chosen
    assert chosen == {"strength": 1.0}


def folded(x: Rows) -> Rows:
    """Return a map of (N, d) rows that no rotation can follow."""
    planted = rotation(x.shape[1], x.shape[1])
    return unit(x @ planted + 0.6 * np.sin(3 * x @ planted[::-1]))


def test_blend_and_mlp_follow_what_a_rotation_cannot() -> None:
    x, given = rows(2000, 6), ConnectSettings(steps=80, batch_size=128, hidden_dim=64, learning_rate=1e-2)
    recall = {
        method: fit_connector(x, folded(x), dataclasses.replace(given, method=method)).report.recall_at_1
        for method in ("procrustes", "blend", "sparse", "mlp")
    }
    assert recall["sparse"] > recall["procrustes"] + 0.05
    assert recall["blend"] > recall["procrustes"] + 0.05
    assert recall["mlp"] > recall["procrustes"] + 0.05


def test_anchors_give_a_shared_text_its_own_vector() -> None:
    x, y = rows(300, 16), rows(300, 24, seed=1)
    fitted = fit_connector(x, y, settings("anchors", temperatures=(0.01,)))
    near = np.sum(fitted.connector.connect(x) * y, axis=1)
    assert near.min() > 0.95  # lengths around the centre are all made the same, so not 1
    assert fitted.report.chosen == {"temperature": 0.01}


@pytest.mark.parametrize("method", FITTED)
def test_recall_is_of_texts_that_the_fit_did_not_see(method: str) -> None:
    # nothing connects these two, and every text stands there twice: a leak would find it again
    x, y = rows(300, 12), rows(300, 12, seed=1)
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    fitted = fit_connector(*twice, settings(method, held_out=0.3, temperatures=(0.01,), shares=(1.0,)))
    assert fitted.report.texts == 300
    assert fitted.report.held_out == 90
    assert fitted.report.recall_at_1 < 0.06  # chance is 0.011
    if method in ("anchors", "blend"):  # and these would have found it
        np.testing.assert_array_less(0.9, np.sum(fitted.connector.connect(x) * y, axis=1))


@pytest.mark.parametrize("method", FITTED)
def test_fit_is_deterministic_by_seed(method: str) -> None:
    x = rows(300, 8)
    first = fit_connector(x, folded(x), settings(method))
    torch.rand(3)
    again = fit_connector(x, folded(x), settings(method))
    assert first.connector.digest() == again.connector.digest()
    assert first.report == again.report


def test_split_follows_the_seed_and_leaves_nothing_out() -> None:
    pairs = distinct_pairs(rows(300, 8), rows(300, 6))
    kept, held = split_pairs(pairs, 0.2, seed=0)
    assert (len(kept.x), len(held.x)) == (240, 60)
    assert sorted(torch.cat([kept.x, held.x]).tolist()) == sorted(pairs.x.tolist())
    assert not torch.equal(split_pairs(pairs, 0.2, seed=1)[1].x, held.x)
    assert torch.equal(split_pairs(pairs, 0.2, seed=0)[1].y, held.y)


@pytest.mark.parametrize("method", FITTED)
def test_centre_of_unlabelled_media_bridges_the_gap(method: str) -> None:
    x, planted = rows(400, 16), rotation(16, 16)
    gap = 1.5 * rows(1, 16, seed=5)
    sounds = unit(rows(400, 16, seed=7) + gap)  # of nothing that the texts name
    heard = unit(x[:100] + gap)
    target = unit(x @ planted)

    def found(media: dict[str, Rows] | None) -> float:
        fitted = fit_connector(x, target, settings(method), media=media)
        assert fitted.report.media == ({} if media is None else {"audio": 400})
        scores = fitted.connector.connect(heard, "audio") @ target[:100].T
        return float((scores.argmax(axis=1) == np.arange(100)).mean())

    assert found({"audio": sounds}) > max(0.7, found(None) + 0.1)


def test_sparse_finds_media_between_texts_where_a_rotation_cannot() -> None:
    # a medium shows two or three things at once: the sum of their texts' vectors, in both spaces
    x = rows(300, 24)
    y = rows(300, 24, seed=1)
    random = np.random.default_rng(2)
    mixed = np.array([random.permutation(300)[:3] for _ in range(100)])
    seen, wanted = unit(x[mixed].sum(axis=1)), unit(y[mixed].sum(axis=1))

    def cosine(method: str) -> float:
        fitted = fit_connector(x, y, settings(method, penalties=(0.05,)))
        return float(np.sum(fitted.connector.connect(seen) * wanted, axis=1).mean())

    assert cosine("sparse") > 0.8 > 0.5 > cosine("procrustes")


def test_fit_leaves_out_texts_without_a_vector() -> None:
    x = rows(300, 8)
    y = folded(x)
    holes = x.copy()
    holes[7] = np.nan
    kept = np.arange(300) != 7
    assert (
        fit_connector(holes, y, settings("procrustes")).connector.digest()
        == fit_connector(x[kept], y[kept], settings("procrustes")).connector.digest()
    )


def test_identity_is_measured_and_changes_nothing() -> None:
    x = rows(200, 8)
    fitted = fit_connector(x, x, ConnectSettings("identity"))
    assert fitted.connector.connect(x) is x
    assert fitted.report.recall_at_1 == 1.0
    with pytest.raises(ConfigError, match="identity from width 8 to 12: use procrustes"):
        fit_connector(x, rows(200, 12), ConnectSettings("identity"))


def test_too_few_texts_and_media_are_refused_in_one_line() -> None:
    x = rows(99, 8)
    with pytest.raises(InputError, match=r"^99 distinct shared texts: a connector needs at least 100.*captions"):
        fit_connector(x, x)
    with pytest.raises(InputError, match=r"^50 distinct shared texts"):
        fit_connector(np.concatenate([x[:50]] * 4), np.concatenate([x[:50]] * 4))
    x = rows(200, 8)
    with pytest.raises(InputError, match=r"^media 'audio': 19 vectors give no centre; give at least 20 files$"):
        fit_connector(x, x, media={"audio": x[:19]})


@pytest.mark.parametrize(
    ("source", "target", "media", "message"),
    [
        ((200, 8), (199, 8), (30, 8), "200 source rows and 199 target rows: row i of both must be the same text"),
        ((200,), (200, 8), (30, 8), r"source of shape \(200,\)"),
        ((200, 8), (200, 8, 1), (30, 8), "target of shape"),
        ((200, 8), (200, 8), (30, 12), r"media 'audio' of shape \(30, 12\): give \(M, 8\) rows"),
    ],
)
def test_wrong_shapes_are_refused(
    source: tuple[int, ...], target: tuple[int, ...], media: tuple[int, ...], message: str
) -> None:
    ones = [np.ones(shape, np.float32) for shape in (source, target, media)]
    if ones[0].ndim == 2:
        ones[0] = rows(*ones[0].shape)
    with pytest.raises(InputError, match=message):
        fit_connector(ones[0], ones[1], media={"audio": ones[2]})


def test_media_named_text_are_refused() -> None:
    with pytest.raises(InputError, match="media 'text': texts are centred by the shared texts"):
        fit_connector(rows(200, 8), rows(200, 8), media={"text": rows(30, 8)})


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "magic"},
        {"held_out": 0},
        {"held_out": 1},
        {"neighbours": 0},
        {"shares": ()},
        {"penalties": ()},
        {"atoms": 0},
        {"focus": -1},
    ],
)
def test_settings_refuse_wrong_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ConnectSettings(**wrong)


def test_withhold_sees_the_same_text_through_its_spelling() -> None:
    texts = ["Grinning face.", "grinning  FACE", "a grinning face", "faces", "grinning-face", "Ｇrinning face"]
    assert withhold(texts, ["grinning face"]) == [2, 3]
    assert withhold(texts, ["grinning face"], key=lambda text: text.split()[-1].casefold().strip(".")) == [3, 4]
