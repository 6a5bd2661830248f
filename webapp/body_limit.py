"""A limit on what a request may send, before Django sees it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
MAX_BODY_BYTES = 26 << 20  # what the largest request needs: JSON of 25 MB, or a photo of 20 MB


def bare_page(title: str, message: str) -> str:
    """A page without the product's frame, for where that cannot be had."""
    title, message = escape(title), escape(message)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title} · Unroll</title><h1>{title}</h1><p>{message}</p>"
        '<p><a href="/">To the start page</a></p>'
    )


class BodyLimit:
    """Refuses a body as soon as it is too long: Django itself would write all of it to the disk first."""

    def __init__(
        self,
        application: Any,
        max_bytes: int = MAX_BODY_BYTES,
        exceptions: Mapping[str, tuple[int, Callable[[Message], Awaitable[bool]]]] | None = None,
    ) -> None:
        self.application, self.max_bytes = application, max_bytes
        self.exceptions = exceptions or {}  # paths that take more, how much, and from whom

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """413, for programs in the API's shape, where the declared or the counted length is over the limit."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        limit = self.max_bytes
        if scope["path"] in self.exceptions:
            larger, may = self.exceptions[scope["path"]]
            limit = larger if await may(scope) else limit
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(scope, send, limit)
            return
        counted, refused = 0, False

        async def count() -> Message:
            nonlocal counted, refused
            message = await receive()
            counted += len(message.get("body", b""))
            if counted <= limit:
                return message
            if not refused:
                refused = True
                await self._refuse(scope, send, limit)
            return {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            if not refused:
                await send(message)

        await self.application(scope, count, answer)

    async def _refuse(self, scope: Message, send: Send, limit: int) -> None:
        message = f"The request is larger than {limit >> 20} MB. Send less at once."
        if scope["path"].startswith("/api/"):
            kind, body = "application/json", json.dumps({"error": {"field": None, "message": message}})
        elif dict(scope["headers"]).get(b"hx-request"):
            kind, body = "text/plain", message
        else:
            kind, body = "text/html", bare_page("This is too large", message)
        headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})
