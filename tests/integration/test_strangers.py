"""Published clients follow the local exchange unchanged, and hold our book."""

from __future__ import annotations

import dataclasses

import pytest

from feature_repo.settings import load_settings
from infra.strangers import PYTHON
from tests.bench.strangers import CLIENTS, SYMBOLS, at_own_exchange

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


async def test_the_books_of_strangers_equal_ours_at_every_update_they_tell() -> None:
    if not PYTHON.exists():
        pytest.skip("left out: strangers' clients are not installed (python -m infra.strangers)")
    settings = dataclasses.replace(load_settings(), symbols=SYMBOLS)
    found = await at_own_exchange(PYTHON, settings, seconds=6.0)
    assert not found["errors"], found
    seen = {(client, symbol): verdict for client, by in found["clients"].items() for symbol, verdict in by.items()}
    assert set(seen) == {(client, symbol) for client in CLIENTS["spot"] for symbol in SYMBOLS}
    assert all(verdict["books"] >= 3 and verdict["levels"] > 100 for verdict in seen.values())
    assert [verdict["first_difference"] for verdict in seen.values()] == [None] * len(seen)
