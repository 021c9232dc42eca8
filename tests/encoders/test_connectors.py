"""A connector computes what its docstring says, is stored to the bit, and refuses what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.encoders.connectors import (
    Connector,
    ConnectorConfig,
    identity_connector,
    load_connector,
    reversed_connector,
    save_connector,
)
from embedspace.encoders.connectors.lasso import nonnegative_lasso
from embedspace.errors import ConfigError, InputError, WeightsError

SIZES: dict[str, dict[str, Any]] = {
    "procrustes": {},
    "ridge": {},
    "anchors": {"anchors": 40, "neighbours": 5, "temperature": 0.2},
    "blend": {"anchors": 40, "neighbours": 5, "temperature": 0.2, "share": 0.6},
    "sparse": {"anchors": 40, "neighbours": 20, "penalty": 0.05, "share": 0.6},
    "mlp": {"hidden_dim": 16},
}


def rows(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((count, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def random_connector(method: str, seed: int = 0, modalities: tuple[str, ...] = ("text", "audio")) -> Connector:
    """Return a connector of 12 to 8 dimensions with random weights, as a fit would leave it."""
    made = Connector(ConnectorConfig(method, 12, 8, modalities, **SIZES[method]))
    generator = torch.Generator().manual_seed(seed)
    for tensor in made.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    made.target_scale.abs_().add_(0.5)
    return made.rounded()


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_connect_blend_by_hand() -> None:
    made, given = random_connector("blend"), rows(6, 12)
    weights = {name: tensor.double().numpy() for name, tensor in made.state_dict().items()}
    for modality, place in (("text", 0), ("audio", 1), ("image", 0)):  # one that has no centre is taken as text
        x = unit(given - weights["centres"][place])
        cosines = x @ weights["keys"].T
        y = 0.4 * unit(x @ weights["linear.weight"].T)
        for row in range(len(x)):
            nearest = np.argsort(-cosines[row])[:5]
            shares = np.exp(cosines[row, nearest] / 0.2)
            read = (shares / shares.sum()) @ weights["values"][nearest]
            y[row] += 0.6 * read / np.linalg.norm(read)
        expected = unit(weights["target_centre"] + weights["target_scale"] * unit(y))
        np.testing.assert_allclose(made.connect(given, modality), expected, atol=2e-6)


def test_connect_sparse_by_hand() -> None:
    made, given = random_connector("sparse"), rows(6, 12)
    weights = {name: tensor.double().numpy() for name, tensor in made.state_dict().items()}
    for row in given:
        x = unit((row - weights["centres"][1])[None])[0]
        nearest = np.argsort(-(weights["keys"] @ x))[:20]
        atoms = weights["keys"][nearest]
        share = np.zeros(20)
        for _ in range(20_000):  # projected gradient descent
            share = np.maximum(share - 0.02 * (atoms @ (share @ atoms - x) + 0.05), 0)
        y = share @ weights["values"][nearest] + 0.6 * weights["linear.weight"] @ (x - share @ atoms)
        expected = unit((weights["target_centre"] + weights["target_scale"] * y / np.linalg.norm(y))[None])[0]
        assert 0 < np.count_nonzero(share) < 20
        np.testing.assert_allclose(made.connect(row[None], "audio")[0], expected, atol=1e-4)


@pytest.mark.parametrize("penalty", [1e-3, 0.05, 0.3, 5.0])
def test_lasso_meets_its_optimality_conditions(penalty: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        atoms, x = random.standard_normal((60, 16)), random.standard_normal(16)
        atoms[7] = atoms[3]  # one that repeats
        gram, products = atoms @ atoms.T, atoms @ x
        found = nonnegative_lasso(gram, products, penalty)
        slope = gram @ found - products + penalty  # of the objective: none may fall, and none that takes part may rise
        assert found.min() >= 0
        assert slope.min() > -1e-4
        assert np.abs(slope[found > 0]).max(initial=0) < 1e-4
        assert found.any() == (products.max() > penalty)


def test_connect_mlp_adds_its_residual_to_the_linear_map() -> None:
    made, given = random_connector("mlp"), rows(6, 12)
    assert made.linear is not None
    assert made.mlp is not None
    x = made.centred(torch.from_numpy(given))
    with torch.no_grad():
        expected = x @ made.linear.weight.T + made.mlp(x)
        torch.testing.assert_close(made.mapped(x), expected / expected.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("method", sorted(SIZES))
def test_connect_gives_unit_rows_that_do_not_depend_on_their_batch(method: str) -> None:
    made, given = random_connector(method), rows(50, 12)
    out = made.connect(given, "audio")
    assert out.shape == (50, 8)
    assert out.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    alone = np.concatenate([made.connect(given[k : k + 1], "audio") for k in range(50)])
    np.testing.assert_allclose(out, alone, atol=1e-5)
    assert made.connect(given[:0]).shape == (0, 8)


def test_connect_returns_nan_for_a_row_that_is_not_finite() -> None:
    made, given = random_connector("blend"), rows(3, 12)
    expected = made.connect(given)
    given[1, 4] = np.nan
    out = made.connect(given)
    assert np.isnan(out[1]).all()
    np.testing.assert_array_equal(out[[0, 2]], expected[[0, 2]])


def test_identity_leaves_vectors_unchanged_to_the_bit(tmp_path: Path) -> None:
    given = rows(7, 8) * np.float32(1.0000001)  # not even made unit again
    before = given.tobytes()
    save_connector(identity_connector(8), tmp_path)
    for one in (identity_connector(8), load_connector(tmp_path)):
        assert one.connect(given, "audio") is given
        assert one(torch.from_numpy(given)).numpy().tobytes() == before
    assert given.tobytes() == before


@pytest.mark.parametrize("method", sorted(SIZES))
def test_connector_is_the_same_to_the_bit_after_it_was_stored(method: str, tmp_path: Path) -> None:
    made, given = random_connector(method), rows(20, 12)
    save_connector(made, tmp_path, "clap")
    opened = load_connector(tmp_path, "clap")
    assert opened.config == made.config
    assert opened.digest() == made.digest()
    assert opened.connect(given, "audio").tobytes() == made.connect(given, "audio").tobytes()
    assert not any(parameter.requires_grad for parameter in opened.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clap.json", "clap.safetensors"]


def test_digest_follows_weights_and_settings() -> None:
    made = random_connector("blend")
    digests = {made.digest(), random_connector("blend", seed=1).digest()}
    for name, tensor in made.state_dict().items():
        before = tensor.clone()
        tensor.view(-1)[0].add_(1)
        digests.add(made.digest())
        tensor.copy_(before)
        assert made.digest() in digests, name
    made.config = ConnectorConfig("blend", 12, 8, ("text", "audio"), **(SIZES["blend"] | {"share": 0.7}))
    digests.add(made.digest())
    assert len(digests) == 3 + len(made.state_dict())


def test_connect_refuses_rows_of_another_width() -> None:
    made = random_connector("procrustes")
    for bad in (rows(3, 8), rows(3, 12)[0]):
        with pytest.raises(InputError, match=r"width 12 to 8: give \(N, 12\)"):
            made.connect(bad)
    with pytest.raises(InputError, match=r"give \(N, 8\)"):
        identity_connector(8).connect(rows(3, 12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "connector method 'magic': known are identity, procrustes"),
        ({"in_dim": 0}, "connector in_dim 0: must be 1 to"),
        ({"embed_dim": 10**12}, "connector embed_dim 1000000000000: must be 1 to"),
        ({"modalities": ["audio"]}, "'text' comes first"),
        ({"modalities": ["text", "audio", "audio"]}, "none stands twice"),
        ({"neighbours": 41}, "connector neighbours 41: must be 1 to its anchors, 40"),
        ({"temperature": 0}, "connector temperature 0 must be above 0"),
        ({"penalty": 0}, "connector penalty 0: must be above 0"),
        ({"share": float("nan")}, "share nan 0 to 1"),
        ({"share": 1.5}, "share 1.5 0 to 1"),
        ({"hidden_dim": 5}, "connector method blend with hidden_dim 5"),
        ({"in_dim": "12"}, "does not fit a connector"),
        ({"surprise": 1}, "unexpected keyword argument 'surprise'"),
        ({"format": 2}, "no connector of format 1; fit it again"),
    ],
)
def test_load_connector_refuses_a_wrong_configuration(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save_connector(random_connector("blend"), tmp_path)
    path = tmp_path / "connector.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=message):
        load_connector(tmp_path)


@pytest.mark.parametrize("change", [{"in_dim": 13}, {"anchors": 41}, {"anchors": 10**9}, {"embed_dim": 60_000}])
def test_load_connector_refuses_weights_of_other_sizes(tmp_path: Path, change: dict[str, Any]) -> None:
    save_connector(random_connector("blend"), tmp_path)
    path = tmp_path / "connector.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WeightsError, match=r"connector\.safetensors: .*configuration beside"):
        load_connector(tmp_path)


def test_load_connector_refuses_missing_and_torn_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such connector"):
        load_connector(tmp_path)
    save_connector(random_connector("blend"), tmp_path)
    weights = tmp_path / "connector.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="corrupt weights"):
        load_connector(tmp_path)
    weights.unlink()
    with pytest.raises(WeightsError, match="no such weights"):
        load_connector(tmp_path)
    (tmp_path / "connector.json").write_text("{")
    with pytest.raises(ConfigError, match="no JSON"):
        load_connector(tmp_path)


def test_identity_between_widths_is_refused() -> None:
    with pytest.raises(ConfigError, match="connector identity from width 8 to 12"):
        ConnectorConfig("identity", 8, 12)


@pytest.mark.parametrize("method", ["procrustes", "ridge", "anchors", "blend", "sparse"])
def test_reversed_connector_goes_back_to_where_a_row_came_from(method: str) -> None:
    sizes = {key: 300 if key == "anchors" else value for key, value in SIZES[method].items()}
    made = Connector(ConnectorConfig(method, 12, 12, ("text", "audio"), **sizes))
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1))).Q
    keys = torch.from_numpy(rows(sizes.get("anchors", 1), 12, seed=2))
    found = {"centres": 0.1 * torch.ones(2, 12), "target_centre": 0.05 * torch.ones(12), "keys": keys}
    found |= {"linear.weight": 3 * turn, "values": keys @ turn.T, "target_scale": torch.tensor(0.98)}
    found["centres"][1] *= -1
    for name, tensor in made.state_dict().items():
        tensor.copy_(found[name])
    given = unit(0.1 * np.ones(12) + keys[:30].numpy() if "keys" in made.state_dict() else rows(30, 12))
    back = reversed_connector(made)
    assert back is not None and (back.config.in_dim, back.config.modalities) == (12, ("text",))
    there = made.connect(given.astype(np.float32))
    assert (back.connect(there) * given).sum(axis=1).mean() > (0.97 if method != "anchors" else 0.9)
    heard = reversed_connector(made, "audio")
    assert heard is not None
    np.testing.assert_allclose((back.connect(there) - heard.connect(there)).mean(), 0.2, atol=0.03)  # other centres


def test_reversed_connector_keeps_what_is_its_own_and_refuses_what_has_no_inverse() -> None:
    given = rows(3, 8)
    same = reversed_connector(identity_connector(8))
    assert same is not None and same.connect(given) is given
    assert reversed_connector(random_connector("mlp")) is None
