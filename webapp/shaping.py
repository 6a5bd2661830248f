"""Middleware that looks at answers only, for threads and for the event loop alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Handler = Callable[[HttpRequest], Any]
Shape = Callable[[HttpRequest, HttpResponseBase], HttpResponseBase]


def shaping(shape: Shape) -> Callable[[Handler], Handler]:
    """The middleware that passes each answer through `shape`."""

    @sync_and_async_middleware
    def made(get_response: Handler) -> Handler:
        if not iscoroutinefunction(get_response):
            return lambda request: shape(request, get_response(request))

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            return shape(request, await get_response(request))

        return middleware

    return made
