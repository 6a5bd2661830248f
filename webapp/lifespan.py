"""What is done when the web process is told to end: Django itself knows no such moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgiref.sync import sync_to_async


class Lifespan:
    """Answers the server's lifespan messages; everything else goes on to the application."""

    def __init__(self, application: Any, *, at_end: Sequence[Callable[[], None]]) -> None:
        self.application, self.at_end = application, at_end

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """https://asgi.readthedocs.io/en/latest/specs/lifespan.html"""
        if scope["type"] != "lifespan":
            await self.application(scope, receive, send)
            return
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        for act in self.at_end:
            await sync_to_async(act)()
        await send({"type": "lifespan.shutdown.complete"})
