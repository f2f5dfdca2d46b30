"""Stack: several calibrated forecasters as one, with weights per head fitted on rows that no member's weights saw.

    stack = fit_stack({"har": har, "gradient_boosting": boosted, "transformer": network}, table)
    stack.shares()["volatility_60"]          # {"har": 0.02, "gradient_boosting": 0.55, "transformer": 0.43}

Members are mixed where their errors are additive: logs of volatilities, log odds of chances. Weights are at least 0 and
sum to 1, so the mixture stays between its members; one much worse than the others gets little, and that is shown. They
are drawn towards equal ones: which of two good members is better on one stretch says little of the next.
Sources: Wolpert 1992 (stacking), Breiman 1996 (non-negative weights), Claeskens et al. 2016 (equal weights do well).

Shapes: as `training.forecaster` · M members · O `HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from feature_repo.grid import Ints
from training.dataset import TrainingSet
from training.fitting import outcomes, raw_outputs
from training.forecaster import HEADS, Forecaster, Raw
from training.trees import TreeBank

FAMILIES = {"volatility": slice(0, 3), "band": slice(1, 2), "direction": slice(3, 5), "chances": slice(5, 9)}
"""Which of `HEADS` weigh a part of `Raw`; the band is that of 15 minutes."""
Line = tuple[Tensor, Tensor | float, Tensor | float]
"""x, factor, shift: a member's calibrated answer is x · factor + shift."""
STEPS = 150
LEARNING_RATE = 0.1
PULL = 0.1
"""Added to a head's loss: this times Σ (weight − usual weight)². Members that differ by thousandths of QLIKE share
evenly, one that is worse by tenths is left out (docs/experiments.md, 11)."""


class Stack(Forecaster):
    """Members by name. Those with trees read the same inputs, relative to the same HAR."""

    def __init__(self, members: Mapping[str, Forecaster], asked: Mapping[str, Collection[str]] | None = None) -> None:
        first = next(iter(members.values()))
        super().__init__(first.columns)
        self.asked = {name: frozenset((asked or {}).get(name, HEADS)) for name in members}
        self.members = nn.ModuleDict(members)
        self.learns_late = any(each.learns_late for each in members.values())
        self.register_buffer("weights_MO", usual_weights(list(self.asked.values())))
        grown = {name: each for name, each in members.items() if each.bank is not None}
        owner = next(iter(grown.values()), first)
        assert all(torch.equal(each.har_GK, owner.har_GK) for each in grown.values())
        self.har_GK.copy_(owner.har_GK)  # the trees read inputs relative to their own HAR
        banks = {name: _asked(each, self.asked[name]) for name, each in grown.items()}
        self.bank = TreeBank.joined(list(banks.values())) if banks else None
        ends = np.cumsum([len(bank.base) for bank in banks.values()]).tolist()
        self.outputs = {name: slice(*span) for name, span in zip(banks, pairwise([0, *ends]), strict=True)}
        """Of the trees, by member."""

    def heads(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> Raw:
        """The weighted members, each calibrated first: odds of one scale can be added."""
        none = slice(0, 0)
        raws = {name: each.heads(sequence_BLF, context_B1, trees_BT[:, self.outputs.get(name, none)])
                for name, each in self.members.items()}

        def mixed(family: str, said: Callable[[Forecaster, Raw], Line]) -> Tensor:
            """Σ weight (x · factor + shift) of those that are asked: what nobody asks for is no part of the graph."""
            own, terms, shifts = FAMILIES[family], [], []
            for m, (name, each) in enumerate(self.members.items()):
                if self.asked[name] & set(HEADS[own]):
                    x, factor, shift = said(each, raws[name])
                    terms.append(x * (self.weights_MO[m, own] * factor))
                    shifts.append(self.weights_MO[m, own] * shift)
            return sum(terms[1:], terms[0]) + sum(shifts)

        return Raw(
            next(iter(raws.values())).ln_har_BK,
            mixed("volatility", lambda each, raw: (raw.ln_f_BK, 1.0, each.ln_scale_K)),
            mixed("band", lambda _, raw: (raw.ln_band_B2, 1.0, 0.0)),
            mixed("direction", lambda each, raw: (raw.direction_B2, *each.platt_62[:2].unbind(1))),
            mixed("chances", lambda each, raw: (raw.chances_B4, *each.platt_62[2:].unbind(1))),
        )

    def shares(self) -> dict[str, dict[str, float]]:
        """Head → member → weight."""
        return {head: {name: float(self.weights_MO[m, o]) for m, name in enumerate(self.members)}
                for o, head in enumerate(HEADS)}


def usual_weights(asked: Sequence[Collection[str]]) -> Tensor:
    """Equal ones among those asked for a head, (M, O); each member's heads are given.

    >>> usual_weights([HEADS, ("up",), ("volatility_5", "volatility_15")])[:, [0, 3, 4]].tolist()
    [[0.5, 0.5, 1.0], [0.0, 0.5, 0.0], [0.5, 0.0, 0.0]]
    """
    asked_MO = torch.tensor([[head in heads for head in HEADS] for heads in asked], dtype=torch.float32)
    assert asked_MO.any(dim=0).all(), "each head is somebody's"
    return asked_MO / asked_MO.sum(dim=0)


def _asked(member: Forecaster, heads: Collection[str]) -> TreeBank:
    """The member's trees, of those heads alone where each output is for one."""
    assert member.bank is not None
    return member.bank.only([not member.answers or member.answers[t] in heads for t in range(len(member.bank.base))])


def mixable(member: Forecaster, raw: Raw) -> Tensor:
    """A member's calibrated logs and log odds, (B, O)."""
    logits_BC = raw.logits_BC * member.platt_62[:, 0] + member.platt_62[:, 1]
    return torch.cat([raw.ln_f_BK + member.ln_scale_K, logits_BC], dim=1)


def fit_stack(
    members: Mapping[str, Forecaster], table: TrainingSet, asked: Mapping[str, Collection[str]] | None = None,
    stride: int = 3,
) -> Stack:
    """Weights by QLIKE and log loss on days that stopped no member. Members are calibrated already.

    `asked`: the heads that a member is asked for, where it is not all of them.
    """
    at = table.weighing(stride)
    stack = Stack(members, asked)
    answers_MNO = torch.stack([mixable(each, raw_outputs(each, table, at)) for each in members.values()])
    stack.weights_MO.copy_(_weights(answers_MNO, stack.weights_MO, table, at))
    return stack


def _weights(answers_MNO: Tensor, usual_MO: Tensor, table: TrainingSet, at: Ints) -> Tensor:
    """Softmax weights, (M, O), that minimise each head's own loss; they start at the usual ones and stay near them."""
    y_NO = torch.from_numpy(outcomes(table, at)).float()
    known_NO = torch.isfinite(y_NO) & (torch.isfinite(answers_MNO) | (usual_MO == 0).unsqueeze(1)).all(dim=0)
    answers_MNO, y_NO = torch.nan_to_num(answers_MNO), torch.where(known_NO, y_NO, torch.ones_like(y_NO))
    count_O = known_NO.sum(dim=0).clamp_min(1)
    free_MO = torch.log(usual_MO).requires_grad_()
    optimizer = torch.optim.Adam([free_MO], LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        weights_MO = torch.softmax(free_MO, dim=0)
        mixed_NO = (answers_MNO * weights_MO.unsqueeze(1)).sum(dim=0)
        ratio_N3 = 2 * (torch.log(y_NO[:, :3]) - mixed_NO[:, :3])
        volatility_N3 = torch.exp(ratio_N3.clamp(max=5.0)) - ratio_N3 - 1
        chance_N6 = nn.functional.binary_cross_entropy_with_logits(mixed_NO[:, 3:], y_NO[:, 3:], reduction="none")
        loss = (torch.cat([volatility_N3, chance_N6], dim=1) * known_NO / count_O).sum()
        loss = loss + PULL * ((weights_MO - usual_MO) ** 2).sum()
        loss.backward()
        optimizer.step()
    return torch.softmax(free_MO.detach(), dim=0)
