"""The graph: equal in torch and ONNX, honest about nulls, free of the market's price and loudness."""

from pathlib import Path

import numpy as np
import pytest
import torch

from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from training.calibration import calibrate, platt_fit
from training.dataset import TrainingSet
from training.export import forecast, onnx_bytes, session
from training.fitting import FitConfig, Fitted, fit, raw_outputs
from training.forecaster import OUTPUTS
from training.targets import HORIZONS


@pytest.fixture(scope="module")
def fitted(table: TrainingSet) -> Fitted:
    found = fit(table, FitConfig(epochs=2, stride=8, batch=256, seed=1, threads=1))
    calibrate(found.model, table)
    return found


@pytest.fixture(scope="module")
def folder(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefact")
    (path / "model.onnx").write_bytes(onnx_bytes(fitted.model))
    return path


def rows(table: TrainingSet, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The last n test rows, the first with a masked beginning, nulls sprinkled over the others."""
    at = table.part("test")[-n:]
    sequence = table.sequences(at).copy()
    sequence[0, :40] = np.nan
    sequence[1:, :, 2::5][:, ::3] = np.nan
    return sequence, table.context[at, None]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_onnx_equals_torch_for_any_batch_with_nulls(
    fitted: Fitted, folder: Path, table: TrainingSet, batch: int,
) -> None:
    sequence, context = rows(table, batch)
    with torch.no_grad():
        expected = fitted.model(torch.from_numpy(sequence), torch.from_numpy(context))
    found = forecast(session(folder), sequence, context)
    assert tuple(found) == OUTPUTS
    for name, values in zip(OUTPUTS, expected, strict=True):
        assert found[name].shape == (batch,)
        assert np.allclose(found[name], values.numpy(), rtol=1e-5, atol=1e-5), name
        assert np.isfinite(found[name]).all(), name


def test_an_unknown_context_makes_risk_unknown_and_nothing_else(folder: Path, table: TrainingSet) -> None:
    sequence, context = rows(table, 3)
    known = forecast(session(folder), sequence, context)
    blind = forecast(session(folder), sequence, np.full_like(context, np.nan))
    assert np.isnan(blind["risk_score"]).all()
    assert np.isfinite(known["risk_score"]).all()
    for name in set(OUTPUTS) - {"risk_score"}:
        # Not equal: how far volatility is from the last month's level says where it will go.
        assert np.isfinite(blind[name]).all(), name
        assert not name.startswith("volatility") or (np.abs(np.log(blind[name] / known[name])) < 1).all(), name


def test_a_market_twice_as_loud_has_twice_the_volatility_up_to_hars_own_reversion(
    fitted: Fitted, folder: Path, table: TrainingSet,
) -> None:
    sequence, context = rows(table, 5)
    loud = sequence.copy()
    scaled = [i for i, kind in enumerate(fitted.model.columns.kinds) if kind in ("volatility", "return")]
    loud[:, :, scaled] *= 2
    found, louder = (forecast(session(folder), s, context) for s in (sequence, loud))
    har = fitted.model.har_GK.numpy()[1:].sum(axis=0)
    for k, h in enumerate(HORIZONS):
        ratio = louder[f"volatility_{h}m"] / found[f"volatility_{h}m"]
        # HAR's coefficients sum to less than 1 (reversion to its mean level); inputs are relative to HAR, so δ moves
        # only by as much as HAR itself did.
        assert np.allclose(np.log(ratio), np.log(2) * har[k], atol=0.25)


def test_the_band_holds_four_fifths_and_volatility_is_unbiased_where_it_was_calibrated(
    folder: Path, table: TrainingSet,
) -> None:
    at = table.part("calibration", 3)
    found = forecast(session(folder), table.sequences(at), table.context[at, None])
    y = table.targets["rv_15"][at]
    inside = (y >= found["volatility_15m_low"]) & (y <= found["volatility_15m_high"])
    assert inside.mean() == pytest.approx(0.8, abs=0.01)
    assert np.mean((y / found["volatility_15m"]) ** 2) == pytest.approx(1.0, abs=0.01)
    assert (found["volatility_15m_low"] < found["volatility_15m_high"]).all()


def test_wild_inputs_stay_within_bounds(folder: Path) -> None:
    wild = np.full((3, SEQUENCE_LENGTH, len(FORECAST_BAR)), 1e12, dtype=np.float32)
    wild[1:] = 0
    wild[2, -1, FORECAST_BAR.index("time_of_day_cos_1d")] = np.nan
    found = forecast(session(folder), wild, np.full((3, 1), 1e-3, dtype=np.float32))
    for name, values in found.items():
        assert np.isfinite(values).all(), name
    assert ((found["risk_score"] >= 0) & (found["risk_score"] <= 1)).all()


def test_two_fits_with_one_seed_are_equal_to_the_last_bit(table: TrainingSet) -> None:
    config = FitConfig(epochs=1, stride=25, batch=128, seed=7, threads=1)
    first, second = (fit(table, config).model.state_dict() for _ in range(2))
    for name, values in first.items():
        assert torch.equal(values, second[name]), name


def test_training_moves_the_model_off_har_but_starts_on_it(fitted: Fitted, table: TrainingSet) -> None:
    at = table.part("calibration", 10)
    raw = raw_outputs(fitted.model, table, at)
    delta = (raw.ln_f_BK - raw.ln_har_BK).abs().max()
    assert 0 < float(delta) <= 1


def test_platt_finds_the_slope_and_intercept_that_made_the_outcomes() -> None:
    rng = np.random.default_rng(0)
    logit = rng.standard_normal(200_000)
    outcome = (rng.random(200_000) < 1 / (1 + np.exp(-(0.7 * logit - 1.2)))).astype(float)
    slope, intercept = platt_fit(logit, outcome)
    assert slope == pytest.approx(0.7, abs=0.02)
    assert intercept == pytest.approx(-1.2, abs=0.02)
