"""Fitting: one model's weights from a training set: scaler and HAR first, then AdamW with early stopping.

Loss = QLIKE of three horizons + pinball of the 10 % and 90 % band + cross-entropies of direction, flat, spike and risk,
each over the rows where its target is known. The kept weights are an average over steps (Polyak), chosen by the
calibration part's loss; the test part is never read here.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from feature_repo.features import FORECAST_BAR
from feature_repo.grid import Floats, Ints
from feature_repo.progress import step
from training.baselines import Har, column_kinds, ln_lags
from training.dataset import Singles, TrainingSet
from training.forecaster import CHANCES, CLIP, OF_DIRECTION, Forecaster, Raw, bar_columns
from training.model import Network, Transformer
from training.targets import HORIZONS

LOG = structlog.get_logger()
F = TypeVar("F", bound=Forecaster)
BAND = (0.10, 0.90)
CHANCE_WEIGHTS = (1.0, 0.3, 0.5, 1.0, 0.5, 1.0)
"""Of `CHANCES` in the loss; flat is easy and matters least."""
STOPPING_WEIGHTS = tuple(0.0 if name in OF_DIRECTION else w for name, w in zip(CHANCES, CHANCE_WEIGHTS, strict=True))
"""In the loss that stops a fit: a network is stopped by what it is good for, and a stack asks it for no direction."""
TARGETS = (*(f"rv_{h}" for h in HORIZONS), *CHANCES)
UP = TARGETS.index("up")
SIGNED = [i for i, name in enumerate(FORECAST_BAR) if column_kinds()[i] == "return" or name == "return_zscore_60m"]
"""Columns that change their sign when prices move the other way."""


@dataclass(frozen=True)
class FitConfig:
    """How one model is fitted."""

    epochs: int = 9
    """At most. Each sees every `stride`-th minute, the next one those beside them: three see every minute once."""
    stride: int = 3
    """Minutes between training rows of one epoch."""
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    average: float = 0.995
    """Memory of the weight average, per step."""
    patience: int = 1
    """Epochs without a better calibration loss before it stops."""
    mask_rows: float = 0.1
    """Share of training sequences whose oldest part is masked: the model must bear a cold start."""
    mirror_rows: float = 0.5
    """Share of training sequences in which what rose falls: how loud a market is does not depend on the sign."""
    noise: float = 0.2
    """Standard deviation of the factor, around 1, of every value of a training sequence."""
    threads: int = 1
    """Of networks and trees. One: sums over several threads round differently elsewhere, and on a busy machine they
    wait on each other."""
    seed: int = 0
    trees: int = 400
    """Of boosting, per output, at most."""

    @property
    def tabular_stride(self) -> int:
        """Minutes between the rows of tabular fits and of every HAR: as many as a network's epochs see."""
        return max(1, self.stride // self.epochs)


@dataclass(frozen=True)
class Fitted:
    """A fitted model before calibration, and how it got there."""

    model: Forecaster
    history: list[dict[str, float]]
    seconds: float


def outcomes(table: TrainingSet, at: Ints) -> np.ndarray:
    """(N, len(TARGETS)) in `TARGETS` order, NaN unknown."""
    return np.column_stack([table.targets[name][at] for name in TARGETS])


def fit(table: TrainingSet, config: FitConfig, kind: type[Network] = Transformer) -> Fitted:
    """Fit a network on the train part; stop and choose by the calibration part. No clock decides anything."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(mode=True)
    start = time.monotonic()
    model = _prepared(table, config, kind)
    device = place()
    model.to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * (len(table.part("train", config.stride)) // config.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.15)
    best, kept, history = float("inf"), copy.deepcopy(model.state_dict()), []
    for epoch in range(config.epochs):
        trained = _epoch(table, model, average, optimizer, schedule, config, epoch)
        loss = mean_loss(average, table, table.stopping(5), STOPPING_WEIGHTS)
        seconds = time.monotonic() - start
        history.append({"epoch": epoch, "train_loss": trained, "calibration_loss": loss, "seconds": seconds})
        LOG.info("epoch", seed=config.seed, **{k: round(v, 4) for k, v in history[-1].items()})
        if loss < best:
            best, kept = loss, copy.deepcopy(average.state_dict())
        waited = epoch - min(range(len(history)), key=lambda i: history[i]["calibration_loss"])
        if waited >= config.patience:
            break
    average.load_state_dict(kept)
    return Fitted(average.eval().cpu(), history, time.monotonic() - start)


def place() -> torch.device:
    """The GPU when there is one; its sums repeat under a seed only with the workspace that CUDA asks for."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


def _prepared(table: TrainingSet, config: FitConfig, kind: type[Forecaster] = Transformer) -> Forecaster:
    """HAR and scaler fitted, weights at their start."""
    model = with_har(kind(bar_columns()), table, config.tabular_stride)
    at = table.part("train", config.stride)
    center, scale = _robust(model, table, at[:: max(1, len(at) // 20_000)])
    model.center_F.copy_(center)
    model.scale_F.copy_(scale)
    return model


def with_har(model: F, table: TrainingSet, stride: int) -> F:
    """The model with HAR's coefficients set: the same for every model of the same rows."""
    at = table.part("train", stride)
    # By least squares on logs, not on QLIKE: a few violent minutes steer the latter (docs/experiments.md).
    har = Har.fit(ln_lags(table.newest(at)), volatilities(table, at))
    model.har_GK.copy_(torch.from_numpy(har.coefficients_GK).float())
    return model


def volatilities(table: TrainingSet, at: Ints) -> Floats:
    """Realised volatilities after each row, (N, K)."""
    return np.column_stack([table.targets[f"rv_{h}"][at] for h in HORIZONS])


def _robust(model: Forecaster, table: TrainingSet, at: Ints) -> tuple[Tensor, Tensor]:
    """Median and half the 16–84 % range of each scale-free column over newest rows (CLIP deviations are kept)."""
    x_N1F = torch.from_numpy(table.newest(at)).unsqueeze(1)
    with torch.no_grad():
        free = model.scale_free(x_N1F, model.ln_har(x_N1F[:, 0])[:, 1:2])[:, 0].numpy()
    low, center, high = np.nanquantile(free, [0.16, 0.5, 0.84], axis=0)
    scale = np.where(high > low, (high - low) / 2, 1.0)
    assert CLIP > 1
    # A column that is null throughout has no centre; it is masked wherever it is read.
    return torch.from_numpy(np.nan_to_num(center)).float(), torch.from_numpy(scale).float()


def _epoch(
    table: TrainingSet, model: Forecaster, average: Forecaster, optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler, config: FitConfig, epoch: int,
) -> float:
    rng = np.random.default_rng(1000 * config.seed + epoch)
    at = rng.permutation(table.part("train", config.stride, offset=epoch))
    model.train()
    total = 0.0
    batches, told = len(at) // config.batch, f"epoch {epoch + 1} of at most {config.epochs}, seed {config.seed}"
    for first in range(0, len(at) - config.batch + 1, config.batch):
        step(told, first // config.batch, batches)
        rows = at[first : first + config.batch]
        sequence, y = _varied(table.sequences(rows), outcomes(table, rows), config, rng)
        device = model.center_F.device
        raw = model.raw(torch.from_numpy(sequence).to(device), torch.from_numpy(table.context[rows, None]).to(device))
        loss = loss_of(raw, torch.from_numpy(y).float().to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _blend(average, model, config.average)
        total += loss.item()
    step(told, batches, batches)
    return total / max(1, batches)


def _varied(
    sequence: Singles, y: Floats, config: FitConfig, rng: np.random.Generator,
) -> tuple[Singles, Floats]:
    """Sequences (N, L, F) and outcomes (N, len(TARGETS)) as another market might have had them.

    The oldest 4 … 60 minutes of a share are masked, another share is mirrored, and every value is a little off (why:
    docs/experiments.md, 14).
    """
    masked = np.flatnonzero(rng.random(len(sequence)) < config.mask_rows)
    for row, length in zip(masked, rng.integers(4, 61, len(masked)), strict=True):
        sequence[row, :length] = np.nan
    mirrored = np.flatnonzero(rng.random(len(sequence)) < config.mirror_rows)
    signs = np.ones((len(sequence), 1, sequence.shape[2]), dtype=np.float32)
    signs[mirrored[:, None], 0, SIGNED] = -1
    y[mirrored, UP] = 1 - y[mirrored, UP]
    return sequence * signs * (1 + config.noise * rng.standard_normal(sequence.shape, dtype=np.float32)), y


def _blend(average: Forecaster, model: Forecaster, memory: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.data.lerp_(new.data, 1 - memory)


def loss_of(raw: Raw, y: Tensor, weights: Sequence[float] = CHANCE_WEIGHTS) -> Tensor:
    """Sum of the heads' mean losses over known targets; `y` (B, len(TARGETS)), weights of `CHANCES`."""
    ln_y_BK = torch.log(y[:, :3])
    ratio_BK = 2 * (ln_y_BK - raw.ln_f_BK)
    volatility = (torch.exp(ratio_BK.clamp(max=5.0)) - ratio_BK - 1).mean(dim=0).sum()
    surprise_B1 = (ln_y_BK[:, 1] - raw.ln_f_BK[:, 1].detach()).unsqueeze(1)
    miss_B2 = surprise_B1 - raw.ln_band_B2
    levels = torch.tensor(BAND, device=y.device)
    band = torch.maximum(levels * miss_B2, (levels - 1) * miss_B2).mean(dim=0).sum()
    chances = zip(weights, raw.logits_BC.unbind(1), y[:, 3:].unbind(1), strict=True)
    none = torch.zeros((), device=y.device)
    return volatility + 2 * band + sum((w * _cross_entropy(*pair) for w, *pair in chances), none)


def _cross_entropy(logit_B: Tensor, outcome_B: Tensor) -> Tensor:
    known = torch.isfinite(outcome_B) & torch.isfinite(logit_B)
    if not bool(known.any()):
        return logit_B.sum() * 0
    return functional.binary_cross_entropy_with_logits(logit_B[known], outcome_B[known])


def raw_outputs(model: Forecaster, table: TrainingSet, at: Ints, batch: int = 4096) -> Raw:
    """The heads over many rows."""
    model.eval()
    device = model.center_F.device
    with torch.no_grad():
        parts = [
            model.raw(*(torch.from_numpy(x).to(device) for x in (table.sequences(rows), table.context[rows, None])))
            for rows in np.split(at, range(batch, len(at), batch))
        ]
    return Raw(*(torch.cat([getattr(p, name).expand(len(p.ln_f_BK), -1) for p in parts]).cpu()
                 for name in Raw.__dataclass_fields__))


def mean_loss(
    model: Forecaster, table: TrainingSet, at: Ints, weights: Sequence[float] = CHANCE_WEIGHTS,
) -> float:
    """The training loss on rows."""
    y = torch.from_numpy(outcomes(table, at)).float()
    return float(loss_of(raw_outputs(model, table, at), y, weights))
