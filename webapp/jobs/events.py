"""A Redis Stream for each job: workers write to it, pages follow it. The row stays the truth."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings

logger = logging.getLogger(__name__)
Entry = tuple[UUID | str, str, Mapping[str, Any], int]  # job, event, data, attempt
_KEPT_S = 3600
_LONGEST = 4096  # entries of a stream


@cache
def connection() -> redis.Redis:
    """This process's connection pool; each call gives up after a second."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=1.0, socket_connect_timeout=1.0, decode_responses=True, retry=None
    )


def key(job: UUID | str) -> str:
    """Name of a job's stream."""
    return f"unroll:job:{job}"


def publish(job: UUID | str, event: str, data: Mapping[str, Any], *, attempt: int = 1) -> None:
    """Append an event; its id is `attempt-index`, so what a second attempt writes comes after."""
    publish_many([(job, event, data, attempt)])


def publish_many(rows: Sequence[Entry]) -> None:
    """Append events of several jobs in one round trip; a dead Redis is no matter, pages poll then."""
    try:
        pipe = connection().pipeline(transaction=False)
        for job, event, data, attempt in rows:
            name = key(job)
            entry: Any = {"event": event, "data": json.dumps(data)}
            pipe.xadd(name, entry, id=f"{max(1, attempt)}-*", maxlen=_LONGEST, approximate=True)
            pipe.expire(name, _KEPT_S)
        pipe.execute(raise_on_error=False)
    except redis.RedisError as error:
        logger.warning("no events: Redis does not answer (%s)", type(error).__name__)


def forget(jobs: list[UUID]) -> None:
    """Drop the streams of erased jobs."""
    try:
        if jobs:
            connection().delete(*map(key, jobs))
    except redis.RedisError:
        logger.warning("streams of erased jobs stay until they expire: Redis does not answer")


def holds(job: UUID, event_id: str) -> bool:
    """Whether a job's stream still has an event: else what came behind it may be lost with it."""
    entry = event_id.replace(".", "-")
    try:
        return bool(connection().xrange(key(job), min=entry, max=entry, count=1))
    except redis.RedisError:
        return False


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def _client() -> Any:
    """The running loop's client: its pool grows to as many connections as listeners wait at once."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=30.0, socket_connect_timeout=1.0, decode_responses=True, retry=None
        )
    return _clients[loop]


class Listener:
    """Follows the streams of some jobs from one async request; use as a context manager."""

    def __init__(self, jobs: list[str], *, last: str = "") -> None:
        self.last = {key(job): last or "$" for job in jobs}
        self.client = _client()
        self.is_deaf = False  # Redis did not answer lately

    async def __aenter__(self) -> Listener:
        """Remember where each stream ends now, so that nothing written from here on is missed."""
        try:
            for name, last in self.last.items():
                if last == "$":
                    newest = await self.client.xrevrange(name, count=1)
                    self.last[name] = newest[0][0] if newest else "0-0"
        except (redis.RedisError, OSError):
            logger.debug("no stream to follow: Redis does not answer")
        return self

    async def __aexit__(self, *_: object) -> None:
        """The connection stays in the loop's pool for the next one."""

    async def wait(self, timeout_s: float) -> list[tuple[str, str, str, Any]]:
        """Events that came within the time: (job, id, event, data). Without Redis it sleeps half a second."""
        try:
            found = await self.client.xread(self.last, count=500, block=max(1, int(timeout_s * 1000)))
            self.is_deaf = False
        except (redis.RedisError, OSError):
            self.is_deaf = True
            await asyncio.sleep(min(timeout_s, 0.5))
            return []
        events = []
        for name, entries in found:
            self.last[name] = entries[-1][0]
            job = name.rsplit(":", 1)[-1]
            events += [(job, i.replace("-", "."), e["event"], json.loads(e["data"])) for i, e in entries]
        return events

    async def begin_anew(self) -> None:
        """Where a stream is shorter than what was read of it, Redis lost it: read the new one from its beginning."""
        read = [name for name, last in self.last.items() if _place(last) > (0, 0)]
        if not read:
            return
        try:
            pipe = self.client.pipeline(transaction=False)
            for name in read:
                pipe.xrevrange(name, count=1)
            for name, newest in zip(read, await pipe.execute(), strict=True):
                if newest and _place(newest[0][0]) < _place(self.last[name]):
                    self.last[name] = "0-0"
        except (redis.RedisError, OSError):
            self.is_deaf = True


def _place(entry: str) -> tuple[int, int]:
    """An entry's id as numbers, in the order of the stream; (0, 0) where nothing was read."""
    attempt, _, index = entry.partition("-")
    return (int(attempt), int(index)) if index else (0, 0)
