"""405 in the API's shape: the framework answers it before any of the API's own handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from webapp.api.errors import error_response

Handler = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def said_in_json(get_response: Handler) -> Handler:
    """Which methods an address of the API takes, as an error like all others."""

    def shaped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code != 405 or not request.path_info.startswith("/api/"):
            return response
        allowed = ", ".join(sorted(response.headers.get("Allow", "").split(", ")))
        said = error_response(405, f"This address does not take {request.method}; it takes {allowed}.")
        said.headers["Allow"] = allowed
        return said

    if not iscoroutinefunction(get_response):
        return lambda request: shaped(request, get_response(request))

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        return shaped(request, await get_response(request))

    return middleware
