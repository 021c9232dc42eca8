"""The measurement of connectors: withheld captions are withheld, choices see no test picture, shares are exact."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.encoders.connectors import Connector, ConnectorConfig
from embedspace.evaluate.search import positive_ranks
from embedspace.train.connect import ConnectSettings, fit_connector
from eval import connectors, connectors_report
from eval.connected_spaces import says_the_same
from eval.connectors import (
    ASKED,
    PENALTIES,
    REST_SHARES,
    SETTINGS,
    SHARES,
    TEMPERATURES,
    Pictures,
    condition,
    conditions_of,
    ranks_of,
    set_to,
    variants,
)
from eval.connectors_report import WAYS, measured

Rows = NDArray[np.float32]


def rows(count: int, dim: int, seed: int = 0) -> Rows:
    found = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_captions_of_the_gallery_are_withheld_however_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = ["grinning face", "red apple", "keycap: 0"]
    planted = ["A grinning face.", "Grinning Faces", "red apples", "keycap 0"]
    others = [f"thing number {number}" for number in range(30)]
    shared = [*others[:10], *planted, *others[10:]]
    monkeypatch.setattr(connectors, "FEW", 12)
    found = conditions_of(shared, gallery, lambda name, some: some[:12])
    assert set(found) == set(ASKED)
    texts = {name: [shared[k] for k in kept] for name, kept in found.items()}
    assert texts["withheld"] == others
    assert set(texts["among"]) == {*others, *planted}
    assert set(texts["random, withheld"]) < set(others)
    assert texts["nearest, withheld"] == others[:12]
    assert texts["nearest"] == shared[:12]
    assert len(texts["random"]) == len(texts["random, withheld"]) == 12
    taken = {says_the_same(caption) for caption in gallery}
    assert not [text for text in texts["withheld"] if says_the_same(text) in taken]


def test_measured_gives_the_share_of_the_joint_space() -> None:
    captions = np.eye(40, dtype=np.float32)
    right = ranks_of(captions, captions, np.arange(40))["image to text"]
    half = captions.copy()
    half[:20] = -half[:20]  # last of all
    wrong = positive_ranks(half, captions, [[k] for k in range(40)])
    found = measured(wrong, right)
    assert found["recall_at_10"][0] == found["of_joint"][0] == 0.5
    low, high = found["of_joint"][1:]
    assert 0.3 < low < 0.5 < high < 0.7
    assert measured(right, right)["of_joint"] == [1.0, 1.0, 1.0]
    assert found["chance_at_10"] == 0.25


def test_variants_share_weights_and_differ_in_settings() -> None:
    texts = rows(150, 8)
    fitted = fit_connector(texts, rows(150, 6, 1), ConnectSettings("blend")).connector
    found = variants(fitted)
    assert len({(one.config.temperature, one.config.share) for one in found}) == len(TEMPERATURES) * len(SHARES)
    assert all(one.keys is fitted.keys for one in found)
    assert fitted.config not in {one.config for one in found[1:2]}
    different = [one.connect(texts[:5]) for one in (found[0], found[-1])]
    assert np.abs(different[0] - different[1]).max() > 1e-3
    sparse = variants(fit_connector(texts, rows(150, 6, 1), SETTINGS["sparse"]).connector)
    assert [(one.config.penalty, one.config.share) for one in sparse] == [
        (p, s) for p in PENALTIES for s in REST_SHARES
    ]
    assert set_to(sparse[0].config) == {"penalty": PENALTIES[0], "share": REST_SHARES[0]}
    plain = Connector(ConnectorConfig("procrustes", 8, 6))
    assert variants(plain) == [plain]


def test_choices_do_not_see_the_test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors_report, "RESAMPLES", 10)
    source, target = rows(300, 12), rows(300, 8, 1)
    captions, where = target[:50], np.arange(50)
    validation = Pictures(captions, source[:50], where)
    media = {"image": rows(30, 12, 4)}

    def chosen(test: Pictures) -> list[object]:
        given = ["procrustes", "anchors", "blend"]
        found, _ = condition((source, target), given, captions, (validation, test), media)
        own = [{k: v for k, v in entry.items() if k not in WAYS} for entry in found["methods"].values()]
        return [found["chosen"], own]

    one, other = Pictures(captions, source[:50], where), Pictures(captions, rows(50, 12, 9), where)
    assert chosen(one) == chosen(other)
    assert chosen(one)[0] != "procrustes"  # nothing linear connects these
