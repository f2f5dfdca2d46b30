"""Poller: one slow series, asked for again and again; what is new is published, what is missing is said, not raised.

    poller = Poller(asked, fetcher, sink.publish, metrics)
    pause_ns = await poller.poll(now_ns)          # and again that much later

The providers are tried in order. What cannot be read is a dead letter, and the next provider is asked. When the newest
value describes a moment longer ago than the series allows (nobody answers, or what they answer is old) the series is
stale: the last value is published once more with `stale`, and `notes` says why, until something newer comes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from feature_repo import topics
from feature_repo.contracts import AHEAD_S, NANOS, SECOND_NS, InvalidMessage, Message, Observation, VenueRefused
from feature_repo.slow_series import SERIES, Series
from streaming.fetch import Answer, Fetcher
from streaming.poller_metrics import PollerMetrics
from streaming.slow_sources import Asked, Endpoint

log = structlog.get_logger()

FIRST_PAUSE_NS = 5 * SECOND_NS
"""Bound of the first pause after a failure; doubled with each further one, up to the series' interval."""
LONGEST_NOTE = 200
JITTER = 0.1
"""Share of its interval by which a poller comes earlier at random: a fleet must not ask at the same moment."""


@dataclass
class Poller:
    """State of one series' polling. Times are ns UTC and come as arguments."""

    asked: Asked
    fetcher: Fetcher
    publish: Callable[[str, Message], None]
    metrics: PollerMetrics
    chance: Callable[[], float] = random.random
    """A number of [0, 1)."""
    session: str = "poller"
    """Session of live observations."""
    failures: int = 0
    """Rounds in a row in which no provider answered well."""
    reason: str = ""
    """What the last of them was told, provider by provider."""
    stale: bool = False
    newest: Observation | None = None
    """The last good one of the newest moment."""
    _told: dict[str, dict[int, float]] = field(default_factory=dict)
    """Instrument → what its last answer said, value by moment."""
    _failed_with: list[str] = field(default_factory=list)

    @property
    def series(self) -> Series:
        return SERIES[self.asked.series]

    @property
    def note(self) -> str:
        """Why there is nothing new, for people; empty when there is."""
        if self.asked.off:
            return f"off: {self.asked.off}"
        if self.stale:
            return f"stale: {self.reason or 'what is told is old'}"[:LONGEST_NOTE]
        return ""

    async def poll(self, now_ns: int) -> int:
        """One round. Returns how long to wait until the next, ns."""
        answered, self._failed_with = False, []
        for endpoint in self.asked.endpoints:
            try:
                answered = await self._ask(endpoint, now_ns)
            except VenueRefused as refused:
                self._failed(endpoint, str(refused))
            if answered:
                break
        self.failures = 0 if answered else self.failures + 1
        self.reason = "" if answered else "; ".join(self._failed_with)
        self._judge(now_ns)
        return self._pause_ns()

    async def _ask(self, endpoint: Endpoint, now_ns: int) -> bool:
        """Ask one provider, its hosts in order. Raises `VenueRefused` when none answers; false: it cannot be read."""
        answer = await self._answer(endpoint, now_ns)
        if answer.body is None:
            self.metrics.polls.labels(self.asked.series, endpoint.provider, "unchanged").inc()
            return True
        try:
            source, session = endpoint.source(answer.host, answer.headers)
            readings = endpoint.parse(answer.body, answer.at_ns)
            if not readings:
                raise InvalidMessage(f"{endpoint.path}: expected values, found none")
            found = [
                self._observation(endpoint, answer.at_ns, at, value, (source, session or self.session))
                for at, value in readings
            ]
        except InvalidMessage as error:
            self.fetcher.forget(answer)
            self._bury(endpoint, answer.body, error, answer.at_ns)
            return False
        self._tell(found)
        self.metrics.polls.labels(self.asked.series, endpoint.provider, "ok").inc()
        return True

    async def _answer(self, endpoint: Endpoint, now_ns: int) -> Answer:
        refused: list[str] = []
        for host in endpoint.hosts:
            try:
                return await self.fetcher.get(host, endpoint.path, endpoint.params(now_ns))
            except VenueRefused as error:
                refused.append(str(error))
        raise VenueRefused("; ".join(refused) or f"{endpoint.provider}: expected a host, found none in the settings")

    def _observation(
        self, endpoint: Endpoint, now_ns: int, at_ns: int, value: float, origin: tuple[str, str],
    ) -> Observation:
        if at_ns > now_ns + AHEAD_S * NANOS:
            raise InvalidMessage(f"{self.asked.name}: expected a moment at most {AHEAD_S:g} s ahead, found "
                                 f"{(at_ns - now_ns) / NANOS:.0f} s")
        observation = Observation(
            symbol=endpoint.symbol, ts_event=at_ns, ts_init=now_ns, source=origin[0],  # type: ignore[arg-type]
            session=origin[1], series=self.asked.series, provider=endpoint.provider, instrument=endpoint.instrument,
            created=now_ns, value=value,
        )
        self.series.check(observation)
        return observation

    def _tell(self, found: list[Observation]) -> None:
        """Publish what the answer before did not say of one instrument."""
        told = self._told.get(found[0].instrument, {})
        for observation in found:
            if self.newest is None or observation.ts_event >= self.newest.ts_event:
                self.newest = observation
            if told.get(observation.ts_event) != observation.value:
                self.publish(topics.slow_topic(observation.series, observation.symbol), observation)
                self.metrics.observations.labels(observation.series, observation.provider).inc()
        self._told[found[0].instrument] = {each.ts_event: each.value for each in found}

    def _bury(self, endpoint: Endpoint, body: bytes, error: InvalidMessage, now_ns: int) -> None:
        letter = topics.dead_letter(
            body, error, component="pollers", ts_init=now_ns, symbol=endpoint.symbol,
            topic=topics.slow_topic(self.asked.series, endpoint.symbol))
        self.publish(topics.DEAD_LETTERS, letter)
        self.metrics.dead_letters.labels(letter.component, letter.reason).inc()
        self._failed(endpoint, str(error))

    def _failed(self, endpoint: Endpoint, reason: str) -> None:
        self._failed_with.append(f"{endpoint.provider}: {reason}")
        self.metrics.polls.labels(self.asked.series, endpoint.provider, "failed").inc()
        log.warning("poll_failed", series=self.asked.name, provider=endpoint.provider, reason=reason)

    def _judge(self, now_ns: int) -> None:
        """Whether the newest value is too old, told once when it becomes so."""
        newest = self.newest
        stale = newest is None or now_ns - newest.ts_event > self.series.stale_ns
        if stale and newest is not None and not self.stale:
            again = newest.model_copy(update={"ts_init": now_ns, "created": now_ns, "stale": True})
            self.publish(topics.slow_topic(again.series, again.symbol), again)
            log.warning("series_stale", series=self.asked.name, reason=self.reason)
        self.stale = stale
        self.metrics.judge(self.asked, newest, stale=stale)

    def _pause_ns(self) -> int:
        if not self.failures:
            return round(self.series.every_ns * (1 - JITTER * self.chance()))
        bound = min(FIRST_PAUSE_NS << min(self.failures - 1, 20), self.series.every_ns)
        waits = [self.fetcher.waits_ns(host) for endpoint in self.asked.endpoints for host in endpoint.hosts]
        # Full jitter, and not before the first of the hosts may be asked again.
        return max(round(bound * self.chance()), min(waits, default=0), SECOND_NS)
