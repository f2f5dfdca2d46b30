"""The model: a small Transformer over 64 minutes that corrects a HAR forecast, and an LSTM with the same heads.

    f_h = HAR_h · exp(δ_h)          the network learns only what HAR misses
    risk, spike = σ(slope · ln(f_h / threshold) + correction)

Shapes: B batch · L minutes (64, oldest first) · F features · P patches · C channels · H heads · D head width · W width
· K horizons (5, 15, 60 min) · S summary · N what is read of the newest minute.
Sources: Nie et al. 2023 (patches), Hochreiter and Schmidhuber 1997 (LSTM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.onnx.ops import attention

from training.forecaster import HARMONICS, Columns, Forecaster, Raw, zero_unknown

DELTA_LIMIT = 1.0
"""|δ| is at most this: the forecast stays within a factor e of HAR whatever the input."""

USUAL_FLAT = -3.0
"""Log odds of a flat minute where the network starts: one in twenty."""
DISTANCES = 5
"""Of HAR from the thresholds (`distances`)."""
SIGNS = 8
"""Newest minutes whose bare direction the direction's head is told: up, down or flat is what a bounce depends on."""


@dataclass(frozen=True)
class Sizes:
    """Of a network. Everything else follows from the data."""

    patch: int = 4
    """Minutes that are one step of the network."""
    width: int = 48
    heads: int = 4
    layers: int = 1
    """Two forecast no better (docs/experiments.md, 13)."""


class Block(nn.Module):  # type: ignore[misc]
    """Pre-norm self-attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BPW: Tensor) -> Tensor:
        mixed_BPW = attended(self.qkv(self.norm_1(x_BPW)), self.heads)
        x_BPW = x_BPW + self.out(mixed_BPW)
        return x_BPW + self.mlp(self.norm_2(x_BPW))


def attended(qkv_BPC: Tensor, heads: int) -> Tensor:
    """What each patch takes from all, (B, P, W), by queries, keys and values side by side (C = 3W)."""
    if torch.compiler.is_exporting():  # one operation of a graph where what follows is a dozen
        q_BPW, k_BPW, v_BPW = qkv_BPC.chunk(3, dim=-1)
        return attention(q_BPW, k_BPW, v_BPW, q_num_heads=heads, kv_num_heads=heads)[0]
    head_width = qkv_BPC.shape[-1] // (3 * heads)
    q_BHPD, k_BHPD, v_BHPD = qkv_BPC.unflatten(-1, (3, heads, head_width)).permute(2, 0, 3, 1, 4).unbind(0)
    scores_BHPP = q_BHPD @ k_BHPD.transpose(-2, -1) / math.sqrt(head_width)
    mixed_BHPD = torch.softmax(scores_BHPP, dim=-1) @ v_BHPD
    return mixed_BHPD.transpose(1, 2).flatten(2)


class Network(Forecaster):
    """Heads on a summary of the sequence; what makes the summary is `trunk`."""

    def __init__(self, columns: Columns, sizes: Sizes | None = None) -> None:
        super().__init__(columns)
        self.sizes = sizes or Sizes()
        channels = 2 * len(columns.features)
        self.embed = nn.Linear(self.sizes.patch * channels, self.sizes.width)
        summary = 2 * self.sizes.width + channels + 2 * len(HARMONICS) + DISTANCES
        self.volatility_head = _head(summary, self.sizes.width, 5)
        self.chance_head = _head(summary, self.sizes.width, 4)
        self.direction_head = _head(summary + SIGNS, self.sizes.width // 2, 2)
        self.slopes = nn.Parameter(torch.full((4,), 3.0))
        for head in (self.volatility_head, self.chance_head, self.direction_head):
            nn.init.zeros_(head[-1].weight)  # starts as HAR itself: training can only move away with cause
            nn.init.zeros_(head[-1].bias)

    def trunk(self, x_BPW: Tensor) -> Tensor:
        """Embedded patches, oldest first → their states (B, P, W)."""
        raise NotImplementedError

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:  # noqa: ARG002 - it has no trees
        """Before calibration."""
        inputs = network_inputs(self, self.sizes.patch, sequence_BLF, context_B1)
        x_BPW = self.trunk(self.embed(inputs.patches_BPC))
        summary_BS = torch.cat([x_BPW[:, -1], x_BPW.mean(dim=1), inputs.newest_BN], dim=-1)
        out_B5, chances_B4 = self.volatility_head(summary_BS), self.chance_head(summary_BS)
        signs_B8 = torch.sign(zero_unknown(sequence_BLF[:, -SIGNS:, self.columns.index("return_1m")]))
        # Direction is nearly noise: it reads what volatility has made the trunk see, its gradient ends here.
        direction_B2 = self.direction_head(torch.cat([summary_BS.detach(), signs_B8], dim=-1))
        usual_2 = torch.tensor([0.0, USUAL_FLAT], device=direction_B2.device)
        ln_f_BK, band_B2, chances_B4 = corrected(inputs, out_B5, chances_B4, self.slopes)
        return Raw(inputs.ln_har_BK, ln_f_BK, band_B2, direction_B2 + usual_2, chances_B4)


@dataclass(frozen=True)
class NetworkInputs:
    """What every network reads, however its weights are."""

    patches_BPC: Tensor
    """Standardised values and what is known of them, side by side."""
    newest_BN: Tensor
    """The newest minute alone: its values, the day's waves, how far HAR is from the thresholds."""
    ln_har_BK: Tensor
    over_bars_B4: Tensor
    """ln HAR over the thresholds that spikes (5, 15, 60 min) and risk are counted above."""


def network_inputs(model: Forecaster, patch: int, sequence_BLF: Tensor, context_B1: Tensor) -> NetworkInputs:
    """Rows as a network reads them."""
    newest_BF = sequence_BLF[:, -1]
    ln_har_BK = model.ln_har(newest_BF)
    tokens_BLC = torch.cat(model.scaled(sequence_BLF, ln_har_BK[:, 1:2]), dim=-1)
    ln_spike_B1, ln_risk_B = model.thresholds(newest_BF, ln_har_BK, context_B1)
    over_bars_B4 = torch.cat([ln_har_BK - ln_spike_B1, ln_har_BK[:, 1:2] - ln_risk_B.unsqueeze(1)], dim=1)
    return NetworkInputs(
        tokens_BLC.unflatten(1, (model.columns.length // patch, patch)).flatten(2),
        torch.cat([tokens_BLC[:, -1], model.harmonics(newest_BF), distances(over_bars_B4, context_B1)], dim=-1),
        ln_har_BK, over_bars_B4,
    )


def corrected(
    inputs: NetworkInputs, out_B5: Tensor, chances_B4: Tensor, slopes_4: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """ln f (B, K), the band (B, 2) and log odds (B, 4), of one network or of several (axes before B)."""
    delta_BK = DELTA_LIMIT * torch.tanh(out_B5[..., :3] / DELTA_LIMIT)
    band_B2 = torch.exp(out_B5[..., 3:].clamp(-2, 2)) * torch.tensor([-0.5, 0.5], device=out_B5.device)
    delta_B4 = delta_BK[..., [0, 1, 2, 1]]
    return inputs.ln_har_BK + delta_BK, band_B2, slopes_4 * (inputs.over_bars_B4 + delta_B4) + chances_B4


def distances(over_bars_B4: Tensor, context_B1: Tensor) -> Tensor:
    """How far HAR is from the spike's thresholds and the last month's percentile, and whether that is known, (B, 5).

    Volatility returns to what it has been, and the sequence alone does not say what that is.
    """
    known_B1 = torch.where(torch.isnan(context_B1), 0.0, 1.0)
    return torch.cat([over_bars_B4[:, :3], over_bars_B4[:, 3:] * known_B1, known_B1], dim=1)


class Transformer(Network):
    """Self-attention over patches."""

    def __init__(self, columns: Columns, sizes: Sizes | None = None) -> None:
        super().__init__(columns, sizes)
        s = self.sizes
        self.place = nn.Parameter(0.02 * torch.randn(columns.length // s.patch, s.width))
        self.blocks = nn.Sequential(*(Block(s.width, s.heads) for _ in range(s.layers)))
        self.norm = nn.LayerNorm(s.width)

    def trunk(self, x_BPW: Tensor) -> Tensor:
        return self.norm(self.blocks(x_BPW + self.place))


class Lstm(Network):
    """One recurrent layer over the same patches, its steps written out: a graph of plain operations for any batch."""

    def __init__(self, columns: Columns, sizes: Sizes | None = None) -> None:
        super().__init__(columns, sizes)
        width = self.sizes.width
        self.enter, self.stay = nn.Linear(width, 4 * width), nn.Linear(width, 4 * width, bias=False)
        self.norm = nn.LayerNorm(width)

    def trunk(self, x_BPW: Tensor) -> Tensor:
        state_BW = memory_BW = torch.zeros_like(x_BPW[:, 0])
        states = []
        for step_BW in x_BPW.unbind(1):
            gates = (self.enter(step_BW) + self.stay(state_BW)).chunk(4, dim=-1)
            take_BW, keep_BW, give_BW = (torch.sigmoid(gate) for gate in gates[:3])
            memory_BW = keep_BW * memory_BW + take_BW * torch.tanh(gates[3])
            state_BW = give_BW * torch.tanh(memory_BW)
            states.append(state_BW)
        return self.norm(torch.stack(states, dim=1))


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
