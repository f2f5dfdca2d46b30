"""The model: a small Transformer over 64 minutes that corrects a HAR forecast, with masking and calibration inside.

    f_h = HAR_h · exp(δ_h)          the Transformer learns only what HAR misses
    risk, spike = σ(slope · ln(f_15 / threshold) + correction)

Raw feature values go in (NaN = null), final calibrated numbers come out, so that nobody outside the graph
can scale, mask or calibrate differently. Every volatility enters as its ratio to the HAR forecast of the
newest row and every return as a multiple of its row's volatility: nothing depends on the price or on
how loud the market is, which is what lets a model of 2019–2025 be used later.

Shapes: B batch · L minutes (64, oldest first) · F features · P patches · C channels · H heads · D head width ·
K horizons (5, 15, 60 min) · G HAR lags. Sources: Corsi 2009 (HAR), Patton 2011 (QLIKE), Nie et al. 2023 (patches),
Romano et al. 2019 (conformal quantiles).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["volatility", "return", "positive", "plain"]
OUTPUTS = (
    "p_up", "p_flat", "volatility_5m", "volatility_15m", "volatility_60m", "volatility_15m_low", "volatility_15m_high",
    "spike_prob", "risk_score", "expected_edge_bps",
)
FLOOR = 1e-5
"""Volatilities below 0.1 bp per √minute (a market that stood still) count as that: a logarithm has no bottom."""
CLIP = 5.0
"""Scaled inputs are cut at ± this many robust deviations: a wild value may say "extreme", not how extreme."""
HARMONICS = (2, 3, 4, 6)
DELTA_LIMIT = 1.0
"""|δ| is at most this: the forecast stays within a factor e of HAR whatever the input."""
MEAN_ABS_NORMAL = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes. Everything else follows from the data."""

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
    patch: int = 4
    width: int = 48
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1

    def index(self, name: str) -> int:
        return self.features.index(name)


class Block(nn.Module):  # type: ignore[misc]
    """Pre-norm self-attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def attend(self, x_BPC: Tensor) -> Tensor:
        width = x_BPC.shape[-1]
        qkv_BP3HD = self.qkv(x_BPC).unflatten(-1, (3, self.heads, width // self.heads))
        q_BHPD, k_BHPD, v_BHPD = qkv_BP3HD.permute(2, 0, 3, 1, 4).unbind(0)
        scores_BHPP = q_BHPD @ k_BHPD.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed_BHPD = torch.softmax(scores_BHPP, dim=-1) @ v_BHPD
        return self.out(mixed_BHPD.transpose(1, 2).flatten(2))

    def forward(self, x_BPC: Tensor) -> Tensor:
        x_BPC = x_BPC + self.drop(self.attend(self.norm_1(x_BPC)))
        return x_BPC + self.drop(self.mlp(self.norm_2(x_BPC)))


@dataclass(frozen=True)
class Raw:
    """What the heads say before calibration (`ln_*` are natural logs)."""

    ln_har_BK: Tensor
    ln_f_BK: Tensor
    ln_band_B2: Tensor
    up_B: Tensor
    flat_B: Tensor
    spike_B: Tensor
    risk_B: Tensor


class Forecaster(nn.Module):  # type: ignore[misc]
    """Raw feature rows → calibrated forecast. Buffers hold what is fitted beside the weights (scaler, HAR, …)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._buffers_for_data(len(config.features), len(config.lags))
        channels = 2 * len(config.features)
        self.embed = nn.Linear(config.patch * channels, config.width)
        self.place = nn.Parameter(0.02 * torch.randn(config.length // config.patch, config.width))
        self.blocks = nn.Sequential(
            *(Block(config.width, config.heads, config.dropout) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.width)
        summary = 2 * config.width + channels + 2 * len(HARMONICS)
        self.volatility_head = _head(summary, config.width, 5)
        self.chance_head = _head(summary, config.width, 2)
        self.direction_head = _head(summary, config.width // 2, 2)
        self.slopes = nn.Parameter(torch.tensor([3.0, 3.0]))
        for head in (self.volatility_head, self.chance_head, self.direction_head):
            nn.init.zeros_(head[-1].weight)  # starts as HAR itself: training can only move away with cause
            nn.init.zeros_(head[-1].bias)

    def _buffers_for_data(self, features: int, lags: int) -> None:
        kinds = self.config.kinds
        for kind in ("volatility", "return", "positive"):
            chosen = torch.tensor([float(k == kind) for k in kinds])
            self.register_buffer(f"is_{kind}_F", chosen)
        self.register_buffer("center_F", torch.zeros(features))
        self.register_buffer("scale_F", torch.ones(features))
        self.register_buffer("har_GK", torch.zeros(lags + 1, 3))
        self.register_buffer("ln_scale_K", torch.zeros(3))
        self.register_buffer("ln_band_2", torch.zeros(2))
        self.register_buffer("platt_42", torch.tensor([[1.0, 0.0]] * 4))
        self.register_buffer("edge_slope", torch.tensor(1.0))

    def ln_har(self, newest_BF: Tensor) -> Tensor:
        """HAR in logs from the newest row's volatilities; a missing window takes the next shorter one's value."""
        lags = torch.tensor([self.config.index(name) for name in self.config.lags], device=newest_BF.device)
        values = list(torch.log(newest_BF[:, lags].clamp_min(FLOOR)).unbind(1))
        for i in range(1, len(values)):
            values[i] = torch.where(torch.isnan(values[i]), values[i - 1], values[i])
        for i in range(len(values) - 2, -1, -1):
            values[i] = torch.where(torch.isnan(values[i]), values[i + 1], values[i])
        ones_B = torch.ones_like(values[0])
        return torch.stack([ones_B, *values], dim=1) @ self.har_GK

    def scale_free(self, sequence_BLF: Tensor, ln_har_B1: Tensor) -> Tensor:
        """Columns freed of the market's price and loudness, (B, L, F); NaN where null."""
        row = self.config.index(self.config.row_volatility)
        row_BL1 = sequence_BLF[:, :, row : row + 1].clamp_min(FLOOR)
        ratio_BLF = torch.log(sequence_BLF.clamp_min(FLOOR)) - ln_har_B1.unsqueeze(-1)
        free_BLF = torch.where(self.is_volatility_F > 0, ratio_BLF, sequence_BLF)
        free_BLF = torch.where(self.is_return_F > 0, sequence_BLF / row_BL1, free_BLF)
        return torch.where(self.is_positive_F > 0, torch.log1p(sequence_BLF.clamp_min(0)), free_BLF)

    def scaled(self, sequence_BLF: Tensor, ln_har_B1: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised values (0 where null) and the mask of what is known, both (B, L, F)."""
        free_BLF = self.scale_free(sequence_BLF, ln_har_B1)
        known_BLF = ~torch.isnan(free_BLF)
        values_BLF = (torch.where(known_BLF, free_BLF, self.center_F) - self.center_F) / self.scale_F
        return values_BLF.clamp(-CLIP, CLIP), known_BLF.to(sequence_BLF.dtype)

    def harmonics(self, newest_BF: Tensor) -> Tensor:
        """Sines and cosines of multiples of the day's phase, (B, 2 per harmonic): sessions open sharply."""
        sine_B, cosine_B = (torch.nan_to_num(newest_BF[:, self.config.index(name)]) for name in self.config.day)
        phase_B = torch.atan2(sine_B, cosine_B)
        return torch.stack([wave(n * phase_B) for n in HARMONICS for wave in (torch.sin, torch.cos)], dim=1)

    def raw(self, sequence_BLF: Tensor, context_B1: Tensor) -> Raw:
        """The heads before calibration."""
        c = self.config
        newest_BF = sequence_BLF[:, -1]
        ln_har_BK = self.ln_har(newest_BF)
        values_BLF, known_BLF = self.scaled(sequence_BLF, ln_har_BK[:, 1:2])
        tokens_BLC = torch.cat([values_BLF, known_BLF], dim=-1)
        patches_BPC = tokens_BLC.unflatten(1, (c.length // c.patch, c.patch)).flatten(2)
        x_BPC = self.norm(self.blocks(self.embed(patches_BPC) + self.place))
        summary_BC = torch.cat(
            [x_BPC[:, -1], x_BPC.mean(dim=1), tokens_BLC[:, -1], self.harmonics(newest_BF)], dim=-1,
        )
        out_B5 = self.volatility_head(summary_BC)
        ln_f_BK = ln_har_BK + DELTA_LIMIT * torch.tanh(out_B5[:, :3] / DELTA_LIMIT)
        band_B2 = 0.5 * torch.exp(out_B5[:, 3:].clamp(-2, 2)) * torch.tensor([-1.0, 1.0], device=out_B5.device)
        extra_B2, direction_B2 = self.chance_head(summary_BC), self.direction_head(summary_BC)
        ln_hour_B = torch.log(newest_BF[:, c.index(c.hour_volatility)].clamp_min(FLOOR))
        ln_hour_B = torch.where(torch.isnan(ln_hour_B), ln_har_BK[:, 2], ln_hour_B)
        # An unknown context gives 0 here and NaN in `forward`: a NaN in the sum would spoil every gradient.
        ln_context_B = torch.nan_to_num(torch.log(context_B1[:, 0].clamp_min(FLOOR)))
        ln_f15_B = ln_f_BK[:, 1]
        return Raw(
            ln_har_BK, ln_f_BK, band_B2, direction_B2[:, 0], direction_B2[:, 1] - 3.0,
            self.slopes[0] * (ln_f15_B - ln_hour_B - math.log(2.0)) + extra_B2[:, 0],
            self.slopes[1] * (ln_f15_B - ln_context_B) + extra_B2[:, 1],
        )

    def forward(self, sequence_BLF: Tensor, context_B1: Tensor) -> tuple[Tensor, ...]:
        """The ten outputs in `OUTPUTS` order, each (B,), calibrated. `risk_score` is NaN with an unknown context."""
        raw = self.raw(sequence_BLF, context_B1)
        f_BK = torch.exp(raw.ln_f_BK + self.ln_scale_K)
        band_B2 = f_BK[:, 1:2] * torch.exp(raw.ln_band_B2 + self.ln_band_2 - self.ln_scale_K[1])
        up_B, flat_B, spike_B, risk_B = (
            torch.sigmoid(self.platt_42[i, 0] * logit_B + self.platt_42[i, 1])
            for i, logit_B in enumerate((raw.up_B, raw.flat_B, raw.spike_B, raw.risk_B))
        )
        risk_B = torch.where(torch.isnan(context_B1[:, 0]), context_B1[:, 0], risk_B)
        edge_B = self.edge_slope * edge_bps(up_B, flat_B, f_BK[:, 0])
        return (
            up_B, flat_B, *f_BK.unbind(1), *band_B2.unbind(1), spike_B, risk_B, edge_B,
        )


def edge_bps(up_B: Tensor, flat_B: Tensor, f_B: Tensor) -> Tensor:
    """E[r] of the next minute in basis points were returns normal with deviation f: (2p − 1)(1 − p_flat) f √(2/π)."""
    return 1e4 * (2 * up_B - 1) * (1 - flat_B) * f_B * MEAN_ABS_NORMAL


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
