"""Parts: a forecaster cut where its trees are, as torch's exporter needs it: what they read, and what reads them."""

from __future__ import annotations

from torch import Tensor, nn

from training.forecaster import Forecaster


class Whole(nn.Module):  # type: ignore[misc]
    """A model without trees."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, sequence_BLF: Tensor, context_B1: Tensor) -> tuple[Tensor, ...]:
        return self.model.calibrated(self.model.raw(sequence_BLF, context_B1), context_B1)


class Front(nn.Module):  # type: ignore[misc]
    """What the trees read, (B, X)."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, sequence_BLF: Tensor, context_B1: Tensor) -> Tensor:
        return self.model.tabular(sequence_BLF, context_B1)


class Heads(nn.Module):  # type: ignore[misc]
    """The outputs, given what the trees answer."""

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model = model

    def forward(self, sequence_BLF: Tensor, context_B1: Tensor, trees_BT: Tensor) -> tuple[Tensor, ...]:
        return self.model.calibrated(self.model.heads(sequence_BLF, context_B1, trees_BT), context_B1)
