"""Requests that carry an API key act for the key's person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.decorators import sync_and_async_middleware

from webapp.jobs import keys
from webapp.jobs.models import ApiKey

Handler = Callable[[HttpRequest], Any]
_WRONG = "This API key is unknown or was revoked. Make one on your account's page; send “Authorization: Bearer KEY”."


def _text(request: HttpRequest) -> str | None:
    """The key that a call of the API shows."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return text if scheme.lower() == "bearer" and request.path.startswith("/api/") else None


def _refused() -> JsonResponse:
    error = {"error": {"field": "Authorization", "message": _WRONG}}
    return JsonResponse(error, status=401, headers={"WWW-Authenticate": "Bearer"})


def _admit(request: HttpRequest, key: ApiKey) -> None:
    request.user = key.user
    request.api_key = key  # type: ignore[attr-defined]

    async def auser() -> Any:
        return key.user

    request.auser = auser


@sync_and_async_middleware
def api_keys(get_response: Handler) -> Handler:
    """The database is asked only where a key is shown."""
    if not iscoroutinefunction(get_response):

        def plain(request: HttpRequest) -> HttpResponseBase:
            if (text := _text(request)) is not None:
                if (key := keys.find(text)) is None:
                    return _refused()
                _admit(request, key)
            return get_response(request)  # type: ignore[no-any-return]

        return plain

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        if (text := _text(request)) is not None:
            if (key := await sync_to_async(keys.find)(text)) is None:
                return _refused()
            _admit(request, key)
        return await get_response(request)  # type: ignore[no-any-return]

    return middleware
