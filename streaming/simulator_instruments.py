"""Instruments of the simulated market: what each is called, costs on 2024-01-01, and in what steps it is traded.

    >>> ether = instrument("ETHUSDT")
    >>> ether.price, ether.scale.price, ether.scale.quantity
    (2600.0, 2, 4)
    >>> instrument("NEWUSDT").price
    150.0
"""

from __future__ import annotations

from dataclasses import dataclass

from streaming.tape import Scale


@dataclass(frozen=True)
class Instrument:
    """`price` in quote currency at the reference day."""

    symbol: str
    price: float
    scale: Scale


def _known(symbol: str, price: float, price_decimals: int, quantity_decimals: int) -> Instrument:
    return Instrument(symbol, price, Scale(price_decimals, quantity_decimals))


CATALOGUE = {known.symbol: known for known in (
    _known("BTCUSDT", 60_000.0, 2, 5), _known("ETHUSDT", 2_600.0, 2, 4), _known("BNBUSDT", 550.0, 2, 3),
    _known("SOLUSDT", 150.0, 2, 3), _known("XRPUSDT", 0.6, 4, 1), _known("DOGEUSDT", 0.12, 5, 0),
    _known("ADAUSDT", 0.4, 4, 1), _known("AVAXUSDT", 25.0, 3, 2), _known("LINKUSDT", 14.0, 3, 2),
    _known("LTCUSDT", 70.0, 2, 3), _known("DOTUSDT", 6.0, 4, 2), _known("TRXUSDT", 0.15, 5, 1),
)}
"""Always in the simulated market, so that a symbol can be added while it runs."""


def instrument(symbol: str) -> Instrument:
    """The instrument of that name; one that is not known costs 150."""
    return CATALOGUE.get(symbol) or _known(symbol, 150.0, 2, 4)
