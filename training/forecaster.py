"""Forecaster: the one interface of every model: raw feature rows go in, final calibrated numbers come out.

    class Har(Forecaster):
        def heads(self, sequence_BLF, context_B1, trees_BT): ...      # uncalibrated; everything else is inherited

Raw feature values go in (NaN = null), so that nobody outside the graph can scale, mask or calibrate differently. Every
volatility is seen as its ratio to the HAR forecast of the newest row and every return as a multiple of its row's
volatility: nothing depends on the price, the instrument or on how loud the market is, which is what lets one model of
2019–2025 be used later and elsewhere. A model that holds decision trees keeps them in `bank`: they are nodes of their
own in the exported graph.

Shapes: B batch · L minutes (64, oldest first) · F features · K horizons (5, 15, 60 min) · G HAR lags · X tabular
inputs · T outputs of the trees. Sources: Corsi 2009 (HAR), Patton 2011 (QLIKE), Romano et al. 2019 (conformal bands).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.polynomial import chebyshev, polynomial
from torch import Tensor, nn

from feature_repo.features import FORECAST_BAR, SEQUENCE_LENGTH
from training.baselines import HAR_LAGS, column_kinds
from training.targets import HORIZONS

if TYPE_CHECKING:
    from training.trees import TreeBank


Kind = Literal["volatility", "return", "positive", "plain"]
OUTPUTS = (
    "p_up", "p_flat", "volatility_5m", "volatility_15m", "volatility_60m", "volatility_15m_low", "volatility_15m_high",
    "spike_prob", "risk_score", "expected_edge_bps", "spike_prob_5m", "spike_prob_60m", "expected_edge_15m_bps",
)
"""`spike_prob` is that of 15 minutes, `expected_edge_bps` that of one. What comes later is added at the end."""
OF_DIRECTION = ("up", "flat")
CHANCES = (*OF_DIRECTION, "spike_5", "spike", "spike_60", "risk")
"""Targets that are chances."""
HEADS = (*(f"volatility_{h}" for h in HORIZONS), *CHANCES)
"""What a model forecasts, each by itself."""
FLOOR = 1e-5
"""Volatilities below 0.1 bp per √minute (a market that stood still) count as that: a logarithm has no bottom."""
CLIP = 5.0
"""Scaled inputs are cut at ± this many robust deviations: a wild value may say "extreme", not how extreme."""
HARMONICS = (2, 3, 4, 6)
WAVE_STEPS = 4096.0
"""Steps of 1 in a wave's value that a tabular model sees."""
MEAN_ABS_NORMAL = math.sqrt(2 / math.pi)
LAGS: dict[str, tuple[int, ...]] = {
    "return_1m": (1, 2, 3, 4, 5, 10, 15), "realized_vol_5m": (5, 15, 30, 60), "realized_vol_15m": (15, 45),
    "volume_ratio_60m": (1, 5, 15),
}
"""Columns of which tabular models also see older rows, by minutes before the newest."""


@dataclass(frozen=True)
class Columns:
    """What the inputs are."""

    features: tuple[str, ...]
    """Input columns, FORECAST_BAR order."""
    kinds: tuple[Kind, ...]
    """How each column is made scale-free: `volatility` ln(x / HAR), `return` x / row volatility,
    `positive` ln(1 + x), `plain` x."""
    lags: tuple[str, ...]
    """HAR's volatility columns, shortest window first."""
    row_volatility: str
    """The column that returns of the same row are divided by."""
    hour_volatility: str
    """RV of the last hour: the spike threshold's base."""
    day: tuple[str, str] = ("time_of_day_sin_1d", "time_of_day_cos_1d")
    """The columns of the day's phase."""
    length: int = 64

    def index(self, name: str) -> int:
        return self.features.index(name)


def bar_columns() -> Columns:
    """Of `forecast_bar_v1`."""
    return Columns(
        features=FORECAST_BAR, kinds=column_kinds(), lags=HAR_LAGS, row_volatility="realized_vol_60m",  # type: ignore[arg-type]
        hour_volatility="realized_vol_60m", length=SEQUENCE_LENGTH,
    )


@dataclass(frozen=True)
class Raw:
    """What the heads say before calibration (`ln_*` are natural logs)."""

    ln_har_BK: Tensor
    ln_f_BK: Tensor
    ln_band_B2: Tensor
    """10 % and 90 % of ln RV_15 above `ln_f_BK[:, 1]`; (1, 2) where every row has the same."""
    direction_B2: Tensor
    """Log odds of `OF_DIRECTION`."""
    chances_B4: Tensor
    """Log odds of the other `CHANCES`."""

    @property
    def logits_BC(self) -> Tensor:  # noqa: N802 - an array's name ends in its shape
        """Log odds, in the order of `CHANCES`."""
        return torch.cat([self.direction_B2, self.chances_B4], dim=1)


def multiples(harmonics: Sequence[int]) -> tuple[list[float], list[list[float]]]:
    """cos kθ and sin kθ / sin θ as polynomials of cos θ (Chebyshev's): which are to be multiplied by sin θ, (W,), and
    the coefficients, (P, W), P powers from 0 and W waves: sin 2θ, cos 2θ, …

    >>> multiples([2])
    ([1.0, 0.0], [[0.0, -1.0], [2.0, 0.0], [0.0, 2.0]])
    """
    first = [chebyshev.cheb2poly([0] * k + [1]) for k in harmonics]
    second = [polynomial.polyder(cosine) / k for k, cosine in zip(harmonics, first, strict=True)]
    both = [each for pair in zip(second, first, strict=True) for each in pair]
    columns = [np.pad(each, (0, 1 + max(harmonics) - len(each))) for each in both]
    return [1.0, 0.0] * len(first), np.column_stack(columns).tolist()


MULTIPLES = multiples(HARMONICS)


class Forecaster(nn.Module):  # type: ignore[misc]
    """Raw feature rows → calibrated forecast. Buffers hold what is fitted beside the weights (scaler, HAR, …)."""

    bank: TreeBank | None = None
    """The model's decision trees, if it has any."""
    answers: tuple[str, ...] = ()
    """Which of `HEADS` each output of `bank` is for; () where it is for several."""
    learns_late: bool = False
    """Whether its direction has learnt from `TrainingSet.stopping`, days of the calibration part."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns
        self._buffers_for_data(len(columns.features), len(columns.lags))

    def _buffers_for_data(self, features: int, lags: int) -> None:
        kinds = self.columns.kinds
        for kind in ("volatility", "return", "positive"):
            chosen = torch.tensor([float(k == kind) for k in kinds])
            self.register_buffer(f"is_{kind}_F", chosen)
        self.register_buffer("center_F", torch.zeros(features))
        self.register_buffer("scale_F", torch.ones(features))
        self.register_buffer("har_GK", torch.zeros(lags + 1, 3))
        self.register_buffer("ln_scale_K", torch.zeros(3))
        self.register_buffer("ln_band_2", torch.zeros(2))
        self.register_buffer("platt_62", torch.tensor([[1.0, 0.0]] * len(CHANCES)))
        self.register_buffer("edge_slope", torch.tensor(1.0))
        self.register_buffer("edge_slope_15", torch.tensor(1.0))

    def ln_har(self, newest_BF: Tensor) -> Tensor:
        """HAR in logs from the newest row's volatilities; a missing window takes the next shorter one's value."""
        lags = torch.tensor([self.columns.index(name) for name in self.columns.lags], device=newest_BF.device)
        ln_BG = torch.log(newest_BF.index_select(1, lags).clamp_min(FLOOR))
        own = torch.arange(len(lags), device=newest_BF.device)
        # How much lag i wants the value of lag j: its own most, then shorter ones, the next first, then longer ones.
        wish_GG = torch.where(own <= own[:, None], len(lags) + own, len(lags) - own).to(ln_BG.dtype)
        taken_BG = torch.where(torch.isnan(ln_BG).unsqueeze(1), 0.0, wish_GG).argmax(dim=2)
        ln_BG = torch.gather(ln_BG, 1, taken_BG)
        return ln_BG @ self.har_GK[1:] + self.har_GK[0]

    def scale_free(self, sequence_BLF: Tensor, ln_har_B1: Tensor) -> Tensor:
        """Columns freed of the market's price and loudness, (B, L, F); NaN where null."""
        row = self.columns.index(self.columns.row_volatility)
        row_BL1 = sequence_BLF[:, :, row : row + 1].clamp_min(FLOOR)
        ratio_BLF = torch.log(sequence_BLF.clamp_min(FLOOR)) - ln_har_B1.unsqueeze(-1)
        free_BLF = torch.where(self.is_volatility_F > 0, ratio_BLF, sequence_BLF)
        free_BLF = torch.where(self.is_return_F > 0, sequence_BLF / row_BL1, free_BLF)
        return torch.where(self.is_positive_F > 0, torch.log1p(sequence_BLF.clamp_min(0)), free_BLF)

    def scaled(self, sequence_BLF: Tensor, ln_har_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised values (0 where null) and the mask of what is known, both (B, L, F)."""
        values_BLF = ((self.scale_free(sequence_BLF, ln_har_B1) - self.center_F) / self.scale_F).clamp(-CLIP, CLIP)
        unknown_BLF = torch.isnan(values_BLF)
        return torch.where(unknown_BLF, 0.0, values_BLF), torch.where(unknown_BLF, 0.0, 1.0)

    def harmonics(self, newest_BF: Tensor) -> Tensor:
        """Sines and cosines of multiples of the day's phase, (B, 2 per harmonic): sessions open sharply.

        As polynomials of its sine and cosine (`multiples`): half the operations of taking the phase and its waves.
        """
        device, at = newest_BF.device, [self.columns.index(name) for name in self.columns.day]
        day_B2 = newest_BF.index_select(1, torch.tensor(at, device=device))
        unknown_B1 = torch.isnan(day_B2.sum(dim=1, keepdim=True))
        # A sine and a cosine by their columns; whatever else comes must not grow with the sixth power.
        day_B2 = torch.where(unknown_B1, torch.tensor([0.0, 1.0], device=device), day_B2).clamp(-1.0, 1.0)
        powers_BP = day_B2[:, 1:] ** torch.arange(1.0 + max(HARMONICS), device=device)
        times_sine_W, of_powers_PW = (torch.tensor(each, device=device, dtype=newest_BF.dtype) for each in MULTIPLES)
        return (powers_BP @ of_powers_PW) * torch.where(times_sine_W > 0, day_B2[:, :1], 1.0)

    def thresholds(self, newest_BF: Tensor, ln_har_BK: Tensor, context_B1: Tensor) -> tuple[Tensor, Tensor]:
        """ln of the spike threshold (B, 1) and of the risk threshold (B,), of which an unknown one is 0."""
        ln_hour_B = torch.log(newest_BF[:, self.columns.index(self.columns.hour_volatility)].clamp_min(FLOOR))
        ln_hour_B = torch.where(torch.isnan(ln_hour_B), ln_har_BK[:, 2], ln_hour_B)
        # An unknown context gives 0 here and NaN in `forward`: a NaN in the sum would spoil every gradient.
        ln_context_B = zero_unknown(torch.log(context_B1[:, 0].clamp_min(FLOOR)))
        return (ln_hour_B + math.log(2.0)).unsqueeze(1), ln_context_B

    def tabular(self, sequence_BLF: Tensor, context_B1: Tensor) -> Tensor:
        """What a model without a sequence sees, (B, X), NaN where null: the newest row, `LAGS`, and thresholds."""
        newest_BF = sequence_BLF[:, -1]
        ln_har_BK = self.ln_har(newest_BF)
        free_BLF = self.scale_free(sequence_BLF, ln_har_BK[:, 1:2])
        length, width = free_BLF.shape[1:]
        older = [(length - 1 - lag) * width + self.columns.index(name) for name, lags in LAGS.items() for lag in lags]
        older_BX = free_BLF.flatten(1).index_select(1, torch.tensor(older, device=free_BLF.device))
        ln_spike_B1, ln_risk_B = self.thresholds(newest_BF, ln_har_BK, context_B1)
        risk_B = torch.where(torch.isnan(context_B1[:, 0]), context_B1[:, 0], ln_har_BK[:, 1] - ln_risk_B)
        # At whole hours a sine is 0 but for the library's last bit, and trees would split on that bit.
        waves_BX = torch.round(self.harmonics(newest_BF) * WAVE_STEPS) / WAVE_STEPS
        levels = [ln_har_BK[:, 1:2], ln_har_BK - ln_spike_B1, risk_B.unsqueeze(1), waves_BX]
        return torch.cat([free_BLF[:, -1], older_BX, *levels], dim=1)

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        """The heads before calibration; `trees_BT` is (B, 0) without a `bank`."""
        raise NotImplementedError

    def raw(self, sequence_BLF: Tensor, context_B1: Tensor) -> Raw:
        """The heads before calibration."""
        return self.heads(sequence_BLF, context_B1, self.trees(sequence_BLF, context_B1))

    def trees(self, sequence_BLF: Tensor, context_B1: Tensor) -> Tensor:
        """What the trees answer, (B, T)."""
        if self.bank is None:
            return sequence_BLF[:, 0, :0]
        return torch.from_numpy(self.bank.answer(self.tabular(sequence_BLF, context_B1).detach().numpy()))

    def forward(self, sequence_BLF: Tensor, context_B1: Tensor) -> tuple[Tensor, ...]:
        """The outputs in `OUTPUTS` order, each (B,), calibrated. `risk_score` is NaN with an unknown context."""
        return self.calibrated(self.raw(sequence_BLF, context_B1), context_B1)

    def calibrated(self, raw: Raw, context_B1: Tensor) -> tuple[Tensor, ...]:
        """The heads as outputs."""
        f_BK = torch.exp(raw.ln_f_BK + self.ln_scale_K)
        band_B2 = f_BK[:, 1:2] * torch.exp(raw.ln_band_B2 + self.ln_band_2 - self.ln_scale_K[1])
        chances_BC = torch.sigmoid(self.platt_62[:, 0] * raw.logits_BC + self.platt_62[:, 1])
        up_B, flat_B, spike_5_B, spike_B, spike_60_B, risk_B = (chances_BC[:, i] for i in range(len(CHANCES)))
        risk_B = torch.where(torch.isnan(context_B1[:, 0]), context_B1[:, 0], risk_B)
        f_5_B, f_15_B, f_60_B = (f_BK[:, k] for k in range(3))
        edge_B = edge_bps(up_B, flat_B, f_5_B, slope=self.edge_slope)
        edge_15_B = edge_bps(up_B, flat_B, f_15_B, 15, self.edge_slope_15)
        return (
            up_B, flat_B, f_5_B, f_15_B, f_60_B, band_B2[:, 0], band_B2[:, 1], spike_B, risk_B, edge_B,
            spike_5_B, spike_60_B, edge_15_B,
        )


def zero_unknown(x: Tensor) -> Tensor:
    """0 for NaN. In a graph two operations where `torch.nan_to_num`, which looks for infinities too, is nine."""
    return torch.where(torch.isnan(x), 0.0, x)


def edge_bps(up_B: Tensor, flat_B: Tensor, f_B: Tensor, minutes: int = 1, slope: Tensor | float = 1.0) -> Tensor:
    """E[r] over h minutes in basis points, were returns normal with deviation f√h: (2p − 1)(1 − p_flat) f √h √(2/π).

    The odds p are the next minute's whatever h: what they are worth after h minutes, the slope says.
    """
    return (2 * up_B - 1) * (1 - flat_B) * f_B * (slope * (1e4 * MEAN_ABS_NORMAL * math.sqrt(minutes)))
