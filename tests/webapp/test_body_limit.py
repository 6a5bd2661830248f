"""A request that is too long is refused before it is written anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from webapp.body_limit import BodyLimit


async def _reader(scope: Any, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


def _ask(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Status of the answer and number of chunks that were taken."""
    taken, sent = 0, []

    async def receive() -> Any:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(BodyLimit(_reader, max_bytes=100)({"type": "http", "headers": headers}, receive, send))
    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    return starts[0], taken


@pytest.mark.parametrize(
    ("chunks", "headers", "expected"),
    [
        ([b"x" * 60, b"x" * 40], [], (200, 2)),
        ([b"x" * 60, b"x" * 60, b"x" * 60], [], (413, 2)),
        ([b"x"], [(b"content-length", b"101")], (413, 0)),
        ([b"x"], [(b"content-length", b"many")], (200, 1)),
        ([b""], [], (200, 1)),
    ],
)
def test_the_body_is_counted(
    chunks: list[bytes], headers: list[tuple[bytes, bytes]], expected: tuple[int, int]
) -> None:
    assert _ask(chunks, headers) == expected
