"""Fetch: one bounded, conditional HTTP GET after the other, obeying who says to wait.

    fetcher = Fetcher(httpx.AsyncClient(), time.time_ns)
    answer = await fetcher.get("https://api.alternative.me", "/fng/", {"limit": "8"})
    answer.body                       # null: nothing has changed since the last answer

What was answered with an ETag or Last-Modified is asked for again only if it changed. 429, 418 and 503 hold for the
host until its Retry-After has passed; nothing is asked before. A body beyond `MOST_BYTES` is not read on.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from feature_repo.contracts import HOUR_NS, MINUTE_NS, SECOND_NS, VenueRefused

MOST_BYTES = 2 * 2**20
"""The longest sound answer here, a series of years, is a tenth of it."""
MOST_KEPT = 1_000
"""Validators kept; an address that holds a day is another one tomorrow."""
WAITING = (418, 429, 503)
DEFAULT_WAIT_NS = MINUTE_NS
LONGEST_WAIT_NS = 6 * HOUR_NS
"""A Retry-After beyond it is a mistake, or a ban that may as well be looked at again by then."""


@dataclass(frozen=True)
class Answer:
    """A good answer. `body` is null when the host says that nothing changed."""

    body: bytes | None
    headers: Mapping[str, str]
    host: str
    at_ns: int
    """When it had come: nobody knew what it says before."""


@dataclass
class Fetcher:
    """One process' GETs. Time is injected; not for use from several event loops."""

    http: httpx.AsyncClient
    wall: Callable[[], int]
    most_bytes: int = MOST_BYTES
    _wait_until: dict[str, int] = field(default_factory=dict)
    _validators: dict[str, dict[str, str]] = field(default_factory=dict)

    async def get(self, host: str, path: str, params: Mapping[str, str]) -> Answer:
        """One answer. Raises `VenueRefused` for anything but a whole body, and says what was found."""
        self._refuse_to_hurry(host)
        url = str(httpx.URL(f"{host}{path}", params=dict(params)))
        try:
            async with self.http.stream("GET", url, headers=self._validators.get(url)) as response:
                return await self._read(host, url, response)
        except httpx.HTTPError as error:
            raise VenueRefused(f"{host}{path}: {type(error).__name__} {error}".rstrip()) from error

    def forget(self, answer: Answer) -> None:
        """The answer was of no use: ask for all of it again, whether it changed or not."""
        self._validators = {url: held for url, held in self._validators.items() if not url.startswith(answer.host)}

    def waits_ns(self, host: str) -> int:
        """How long nothing is asked of a host."""
        return max(0, self._wait_until.get(host, 0) - self.wall())

    def _refuse_to_hurry(self, host: str) -> None:
        if wait := self.waits_ns(host):
            raise VenueRefused(f"{host}: said to wait, {wait / SECOND_NS:.0f} s more")

    async def _read(self, host: str, url: str, response: httpx.Response) -> Answer:
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return Answer(None, response.headers, host, self.wall())
        if response.status_code in WAITING:
            self._wait_until[host] = self.wall() + retry_after_ns(response.headers.get("retry-after"), self.wall())
        if response.status_code != httpx.codes.OK:
            raise VenueRefused(f"{host}: expected 200, found {response.status_code}")
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self.most_bytes:
                raise VenueRefused(f"{host}: expected at most {self.most_bytes} bytes, found more")
        told = {"If-None-Match": response.headers.get("etag"),
                "If-Modified-Since": response.headers.get("last-modified")}
        if len(self._validators) >= MOST_KEPT:
            self._validators.clear()
        self._validators[url] = {name: value for name, value in told.items() if value}
        return Answer(bytes(body), response.headers, host, self.wall())


def retry_after_ns(text: str | None, now_ns: int) -> int:
    """Nanoseconds that a Retry-After asks for, as seconds or as a date; a minute where it says nothing.

    >>> retry_after_ns("7", 0) // SECOND_NS, retry_after_ns("Thu, 01 Jan 1970 00:02:00 GMT", 0) // SECOND_NS
    (7, 120)
    """
    if text is None:
        return DEFAULT_WAIT_NS
    if text.strip().isdecimal():
        return min(int(text) * SECOND_NS, LONGEST_WAIT_NS)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return DEFAULT_WAIT_NS
    return min(max(int(at.timestamp()) * SECOND_NS - now_ns, SECOND_NS), LONGEST_WAIT_NS)
