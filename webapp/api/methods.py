"""405 in the API's shape: the framework answers it before any of the API's own handlers."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from webapp.api.errors import error_response
from webapp.shaping import shaping


@shaping
def said_in_json(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Which methods an address of the API takes, as an error like all others."""
    if response.status_code != 405 or not request.path_info.startswith("/api/"):
        return response
    allowed = ", ".join(sorted(response.headers.get("Allow", "").split(", ")))
    said = error_response(405, f"This address does not take {request.method}; it takes {allowed}.")
    said.headers["Allow"] = allowed
    return said
