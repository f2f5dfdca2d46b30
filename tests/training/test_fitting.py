"""What a fit learns before the first step it learns from the train part alone; how it varies what it is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from feature_repo.features import FORECAST_BAR
from training.dataset import TrainingSet
from training.fitting import (
    CHANCE_WEIGHTS,
    STOPPING_WEIGHTS,
    UP,
    FitConfig,
    _prepared,
    _varied,
    mean_loss,
    outcomes,
)


def test_scaler_and_har_do_not_change_with_calibration_and_test(table: TrainingSet) -> None:
    outside = table.parts != 0
    values = table.values_MF.copy()
    values[outside] *= 3.0
    targets = {name: np.where(outside, 7.0 * column, column) for name, column in table.targets.items()}
    one, two = (_prepared(each, FitConfig()) for each in (table, replace(table, values_MF=values, targets=targets)))
    for name in ("har_GK", "center_F", "scale_F"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def varied(table: TrainingSet, config: FitConfig, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A batch before and after: sequences and outcomes, twice."""
    at = table.part("train")[:256]
    sequence, y = table.sequences(at), outcomes(table, at)
    return sequence, y, *_varied(sequence.copy(), y.copy(), config, np.random.default_rng(seed))


def test_a_mirrored_market_falls_where_it_rose_and_is_as_loud(table: TrainingSet) -> None:
    sequence, y, turned, answers = varied(table, FitConfig(mask_rows=0, mirror_rows=1, noise=0))
    signed = [name.startswith(("return_", "momentum_", "sma_", "vwap_")) for name in FORECAST_BAR]
    np.testing.assert_array_equal(turned, np.where(signed, -sequence, sequence))
    assert np.isin(y[:, UP], (0, 1)).sum() > 100
    np.testing.assert_array_equal(answers[:, UP], 1 - y[:, UP])
    np.testing.assert_array_equal(np.delete(answers, UP, axis=1), np.delete(y, UP, axis=1))


def test_about_half_of_the_rows_are_mirrored_each_with_its_outcome(table: TrainingSet) -> None:
    sequence, y, turned, answers = varied(table, FitConfig(mask_rows=0, noise=0))
    now = FORECAST_BAR.index("momentum_60m")
    moved = np.nan_to_num(sequence[:, -1, now]) != 0
    mirrored = (turned[:, -1, now] == -sequence[:, -1, now])[moved]
    assert 0.35 < mirrored.mean() < 0.65
    known = np.isfinite(y[moved, UP])
    np.testing.assert_array_equal((answers[moved, UP] != y[moved, UP])[known], mirrored[known])


def test_noise_is_a_factor_around_one_of_what_is_known(table: TrainingSet) -> None:
    sequence, y, noisy, answers = varied(table, FitConfig(mask_rows=0, mirror_rows=0))
    np.testing.assert_array_equal(np.isnan(noisy), np.isnan(sequence))
    known = np.isfinite(sequence) & (sequence != 0)
    factors = noisy[known] / sequence[known]
    assert abs(factors.mean() - 1) < 0.01
    assert abs(factors.std() - FitConfig().noise) < 0.01
    np.testing.assert_array_equal(answers, y)


def test_a_cold_start_lacks_the_oldest_minutes_and_nothing_else(table: TrainingSet) -> None:
    sequence, y, masked, answers = varied(table, FitConfig(mask_rows=1, mirror_rows=0, noise=0))
    hidden = np.isnan(masked).all(axis=2)
    lengths = hidden.sum(axis=1)
    assert (hidden == (np.arange(sequence.shape[1]) < lengths[:, None])).all()
    assert (lengths.min(), lengths.max()) >= (4, 50)
    assert lengths.max() <= 60
    np.testing.assert_array_equal(masked[~hidden], sequence[~hidden])
    np.testing.assert_array_equal(answers, y)


def test_direction_does_not_teach_the_trunk_and_stops_no_fit(table: TrainingSet) -> None:
    model = _prepared(table, FitConfig())
    torch.nn.init.normal_(model.direction_head[-1].weight)
    at = table.part("train")[:64]
    rows = torch.from_numpy(table.sequences(at)), torch.from_numpy(table.context[at, None])
    model.raw(*rows).direction_B2.sum().backward()
    taught = {name for name, value in model.named_parameters() if value.grad is not None and bool(value.grad.any())}
    assert taught == {name for name, _ in model.named_parameters() if name.startswith("direction_head.")}
    turned = replace(table, targets={**table.targets, "up": 1 - table.targets["up"], "flat": 1 - table.targets["flat"]})
    stopping, learning = ([mean_loss(model, each, at, weights) for each in (table, turned)]
                          for weights in (STOPPING_WEIGHTS, CHANCE_WEIGHTS))
    assert stopping[0] == stopping[1]
    assert learning[0] != learning[1]


def test_what_a_fit_is_shown_repeats_under_its_seed(table: TrainingSet) -> None:
    first, again, other = (varied(table, FitConfig(), seed)[2] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)
