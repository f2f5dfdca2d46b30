"""Online store of this project: newest wins, at the place that the settings name, with refusals in our own words.

    online_store:
      type: feature_repo.online_store.NewestWinsOnlineStore

What it does beyond Feast's own Redis store is in `newest_wins`, which anybody may use. Here it is given the settings'
Redis, its writer for whatever writes, and what a row of this market may be: a finite number for a symbol that is known
here, no further ahead than a clock can be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from feast import FeatureView, RepoConfig
from pydantic import Field

from feature_repo.contracts import AHEAD_S, InvalidMessage
from feature_repo.newest_wins import online_store as newest_wins
from feature_repo.newest_wins.online_store import Found, Progress, RefusedRow, Row
from feature_repo.newest_wins.script import Call
from feature_repo.redis_client import available, connect, connect_async
from feature_repo.redis_layout import entity_key
from feature_repo.settings import load_settings
from feature_repo.views import ENTITY


class NewestWinsOnlineStoreConfig(newest_wins.NewestWinsOnlineStoreConfig):
    """Where Redis is, by default what the settings say; and which symbols are known before they have a row."""

    type: Literal["feature_repo.online_store.NewestWinsOnlineStore"] = (
        "feature_repo.online_store.NewestWinsOnlineStore"
    )
    redis_url: str = Field(default_factory=lambda: load_settings().redis, repr=False)
    redis_writer_url: str = Field(default_factory=lambda: load_settings().redis_writer, repr=False)
    symbols: tuple[str, ...] = Field(default_factory=lambda: load_settings().symbols)
    most_ahead_s: float | None = AHEAD_S
    refuse_not_finite: bool = True


class NewestWinsOnlineStore(newest_wins.NewestWinsOnlineStore):
    """`newest_wins` with our connections, errors and doors."""

    _client: Any = None
    _client_async: Any = None
    _writing: Any = None
    _writing_async: Any = None

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress,
    ) -> None:
        """As `newest_wins`. Raises `InvalidMessage` for a row that may not be stored, `StoreUnavailable`."""
        with available(config.online_store.redis_writer_url):
            super().online_write_batch(config, table, data, progress)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[Row], progress: Progress,
    ) -> None:
        """The same for an event loop."""
        with available(config.online_store.redis_writer_url):
            await super().online_write_batch_async(config, table, data, progress)

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """As `newest_wins`. Raises `StoreUnavailable`."""
        with available(config.online_store.redis_url):
            return super().online_read(config, table, entity_keys, requested_features)

    def calls(self, config: RepoConfig, table: FeatureView, data: Sequence[Row]) -> list[Call]:
        """As `newest_wins`, for known symbols: the settings', and those that the stream has written a row of."""
        try:
            calls = super().calls(config, table, data)
        except RefusedRow as refused:
            raise InvalidMessage(str(refused)) from refused
        asked = {value.string_val for entity, *_ in data for value in entity.entity_values}
        strange = sorted(asked - set(config.online_store.symbols))
        client = self._get_client(config.online_store)
        for symbol in strange:
            if not client.exists(entity_key(config.project, ENTITY, symbol)):
                raise InvalidMessage(
                    f"{table.name}: expected a symbol that is followed, found {symbol!r}; nothing of the batch was "
                    f"stored, `candlewick symbols add` follows it",
                )
        return calls

    def _get_client(self, settings: NewestWinsOnlineStoreConfig) -> Any:
        self._client = self._client or connect(settings.redis_url)
        return self._client

    async def _get_client_async(self, settings: NewestWinsOnlineStoreConfig) -> Any:
        self._client_async = self._client_async or connect_async(settings.redis_url)
        return self._client_async

    def _get_writer(self, settings: newest_wins.NewestWinsOnlineStoreConfig) -> Any:
        self._writing = self._writing or connect(settings.redis_writer_url)
        return self._writing

    async def _get_writer_async(self, settings: newest_wins.NewestWinsOnlineStoreConfig) -> Any:
        self._writing_async = self._writing_async or connect_async(settings.redis_writer_url)
        return self._writing_async
