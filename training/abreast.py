"""Abreast: the Transformers of a stack as one network with an axis more: the same answers by half the operations.

    graph = onnx_bytes(abreast(stack))

A row is forecast in a fraction of a millisecond, most of it what each operation of a graph costs whatever its size. So
equal layers of all networks are one product, and the scale and shift of a norm are part of the layer that reads it.

Shapes: as `training.model` · M networks · O heads, as `training.stack` · X what a layer reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.forecaster import OF_DIRECTION, Forecaster, Raw
from training.model import Block, Transformer, attended, corrected, network_inputs
from training.stack import FAMILIES, Stack

Affine = tuple[Tensor, Tensor]
"""Weight (C, X) and bias (C,) of a layer; scale and shift (X,) of a norm."""
COMMON = ("har_GK", "center_F", "scale_F")
"""Fitted from the rows alone, whatever the seed."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def abreast(stack: Stack) -> Stack:
    """The same forecasts, with the first Transformers that can go together as one member, if two can: of one size and
    from the same rows, asked for the same heads and not for direction."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, each in stack.members.items():
        if isinstance(each, Transformer) and not stack.asked[name] & set(OF_DIRECTION):
            common = [getattr(each, buffer).numpy().tobytes() for buffer in COMMON]
            groups.setdefault((each.sizes, stack.asked[name], *common), []).append(name)
    alike = next((names for names in groups.values() if len(names) > 1), [])
    if not alike:
        return stack
    weights_MO = dict(zip(stack.members, stack.weights_MO, strict=True))
    own_MO = torch.stack([weights_MO.pop(name) for name in alike])
    one = Abreast([stack.members[name] for name in alike], own_MO)
    joined = "+".join(alike)
    others = {name: each for name, each in stack.members.items() if name not in alike}
    found = Stack({**others, joined: one}, {**stack.asked, joined: stack.asked[alike[0]]})
    for name, value in stack.named_buffers(recurse=False):
        found.register_buffer(name, value)
    found.weights_MO = torch.stack([*weights_MO.values(), own_MO.sum(dim=0)])
    found.eval()
    return found


class Abreast(Forecaster):
    """Calibrated Transformers of one size, mixed by their weights; they are not asked for direction."""

    def __init__(self, networks: Sequence[Transformer], weights_MO: Tensor) -> None:
        super().__init__(networks[0].columns)
        for name in COMMON:
            self.register_buffer(name, getattr(networks[0], name))
        self.patch, width = networks[0].sizes.patch, networks[0].sizes.width
        self.embed = Layers([affine(each.embed) for each in networks], patched=True)
        self.embed.bias = self.embed.bias + torch.stack([each.place for each in networks]).unsqueeze(1)
        self.blocks = nn.Sequential(*(Blocks(same) for same in zip(*(each.blocks for each in networks), strict=True)))
        # Both heads' first layers side by side: what reads the patches' states, which the last norm has not scaled yet,
        # apart from what reads the newest minute, which is the same for all networks.
        first = [beside(affine(each.volatility_head[0]), affine(each.chance_head[0])) for each in networks]
        norms = [(each.norm.weight.repeat(2), each.norm.bias.repeat(2)) for each in networks]
        self.pooled = Layers([(weight[:, : 2 * width], bias) for weight, bias in first], norms)
        self.register_buffer("newest_MXC", torch.stack([weight[:, 2 * width :].T for weight, _ in first]))
        last = [(affine(each.volatility_head[2]), affine(each.chance_head[2])) for each in networks]
        self.last = Layers([(torch.block_diag(v[0], c[0]), torch.cat([v[1], c[1]])) for v, c in last])
        self.register_buffer("slopes_M14", torch.stack([each.slopes for each in networks]).unsqueeze(1))
        self._mix(networks, weights_MO)

    def _mix(self, networks: Sequence[Transformer], weights_MO: Tensor) -> None:
        """Weight × calibration of ln f, band and log odds side by side."""
        share_MO = torch.nan_to_num(weights_MO / weights_MO.sum(dim=0))
        f_M3, band_M1, chances_M4 = (share_MO[:, FAMILIES[name]] for name in ("volatility", "band", "chances"))
        platt_M42 = torch.stack([each.platt_62[2:] for each in networks])
        shift_M9 = torch.cat([f_M3 * torch.stack([each.ln_scale_K for each in networks]), 0 * band_M1.expand(-1, 2),
                              chances_M4 * platt_M42[:, :, 1]], dim=1)
        self.register_buffer("factor_M19", torch.cat(
            [f_M3, band_M1.expand(-1, 2), chances_M4 * platt_M42[:, :, 0]], dim=1).unsqueeze(1))
        self.register_buffer("shift_9", shift_M9.sum(dim=0))

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:  # noqa: ARG002 - it has no trees
        """The mixture, calibrated."""
        inputs = network_inputs(self, self.patch, sequence_BLF, context_B1)
        x_MBPW = normed(self.blocks(self.embed(inputs.patches_BPC)))
        pooled_MBX = torch.cat([x_MBPW[:, :, -1], x_MBPW.mean(dim=2)], dim=-1)
        out_MB9 = self.last(functional.gelu(self.pooled(pooled_MBX) + inputs.newest_BN @ self.newest_MXC))
        said_MB9 = torch.cat(corrected(inputs, out_MB9[..., :5], out_MB9[..., 5:], self.slopes_M14), dim=-1)
        said_B9 = (said_MB9 * self.factor_M19).sum(dim=0) + self.shift_9
        not_asked_B2 = torch.full_like(said_B9[:, :2], torch.nan)
        return Raw(inputs.ln_har_BK, said_B9[:, :3], said_B9[:, 3:5], not_asked_B2, said_B9[:, 5:])


class Layers(nn.Module):  # type: ignore[misc]
    """A linear layer of each network, for (M, B, X) or, `patched`, (M, B, P, X)."""

    def __init__(self, layers: Sequence[Affine], norms: Sequence[Affine] = (), *, patched: bool = False) -> None:
        """`norms`: scale and shift that the inputs lack."""
        super().__init__()
        weight_MXC = torch.stack([weight.T for weight, _ in layers])
        bias_M1C = torch.stack([bias for _, bias in layers]).unsqueeze(1)
        if norms:
            bias_M1C = bias_M1C + torch.stack([shift for _, shift in norms]).unsqueeze(1) @ weight_MXC
            weight_MXC = torch.stack([scale for scale, _ in norms]).unsqueeze(2) * weight_MXC
        self.register_buffer("weight", weight_MXC.unsqueeze(1) if patched else weight_MXC)
        self.register_buffer("bias", bias_M1C.unsqueeze(1) if patched else bias_M1C)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Blocks(nn.Module):  # type: ignore[misc]
    """The same block of each network."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.heads = blocks[0].heads
        before, between = [affine(each.norm_1) for each in blocks], [affine(each.norm_2) for each in blocks]
        self.qkv = Layers([affine(each.qkv) for each in blocks], before, patched=True)
        self.out = Layers([affine(each.out) for each in blocks], patched=True)
        self.up = Layers([affine(each.mlp[0]) for each in blocks], between, patched=True)
        self.down = Layers([affine(each.mlp[2]) for each in blocks], patched=True)

    def forward(self, x_MBPW: Tensor) -> Tensor:
        networks, _, patches, width = x_MBPW.shape
        qkv_BPC = self.qkv(normed(x_MBPW)).reshape(-1, patches, 3 * width)
        x_MBPW = x_MBPW + self.out(attended(qkv_BPC, self.heads).reshape(networks, -1, patches, width))
        return x_MBPW + self.down(functional.gelu(self.up(normed(x_MBPW))))


def normed(x: Tensor) -> Tensor:
    """A norm without scale and shift."""
    return functional.layer_norm(x, x.shape[-1:])


def affine(layer: nn.Linear | nn.LayerNorm) -> Affine:
    return layer.weight, layer.bias


def beside(left: Affine, right: Affine) -> Affine:
    """Two layers that read the same."""
    return torch.cat([left[0], right[0]]), torch.cat([left[1], right[1]])
