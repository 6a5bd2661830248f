"""Every error of the API is `{"error": {"field", "message"}}`."""

from __future__ import annotations

import json
import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from mlcore.errors import BundleError, InvalidInput
from webapp.jobs.submission import QueueFull
from webapp.registry.services import ModelUnavailable

logger = logging.getLogger(__name__)
_TOO_BIG = "The request is larger than 25 MB. Send less at once."


class NotPermitted(Exception):
    """The caller may not do this at all; `status` is 401 or 403."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnsupportedType(ValueError):
    """The body is of another type than JSON."""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


class JSONParser(Parser):
    """Strict JSON: no NaN, no infinities, no nesting that overflows the stack."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The body as Python values."""
        if request.content_type != "application/json":
            raise UnsupportedType("Send JSON, with the header Content-Type: application/json.")
        try:
            return json.loads(request.body, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None


def error_response(status: int, message: str, field: str | None = None) -> JsonResponse:
    """One error in the API's shape; half characters are replaced, so that it can always be sent."""
    clean = message.encode("utf-8", "replace").decode()
    name = field.encode("utf-8", "replace").decode() if field else None
    return JsonResponse({"error": {"field": name, "message": clean}}, status=status)


def _parse_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    cause = error.__cause__
    if isinstance(cause, UnsupportedType):
        return error_response(415, str(cause))
    if error.status_code == 400 and cause is not None:
        return error_response(400, f"The body is no JSON: {cause}.")
    return error_response(error.status_code, str(error))


def _validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0]
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "body_data", "data", "payload")]
    field = ".".join(path)
    kinds = {
        "missing": f"“{field}” is missing." if field else "The request has no body. Send a JSON object.",
        "extra_forbidden": f"There is no field “{field}” here.",
    }
    message = kinds.get(first["type"], f"{first['msg']}.")
    if "path" in first["loc"]:
        return error_response(404, "There is nothing at this address: the id is not a UUID.", field)
    return error_response(422, message, field or None)


def _queue_full(request: HttpRequest, error: QueueFull) -> HttpResponse:
    response = error_response(429, str(error))
    response["Retry-After"] = str(error.retry_after_s)
    return response


def install(api: Any) -> None:
    """Give a NinjaAPI its error answers."""
    api.add_exception_handler(InvalidInput, lambda request, error: error_response(422, error.message, error.field))
    api.add_exception_handler(ModelUnavailable, lambda request, error: error_response(503, str(error)))
    api.add_exception_handler(BundleError, lambda request, error: error_response(503, str(error)))
    api.add_exception_handler(QueueFull, _queue_full)
    api.add_exception_handler(NotPermitted, lambda request, error: error_response(error.status, str(error)))
    api.add_exception_handler(
        Http404, lambda request, error: error_response(404, "There is nothing here, or it is not yours.")
    )
    api.add_exception_handler(RequestDataTooBig, lambda request, error: error_response(413, _TOO_BIG))
    api.add_exception_handler(HttpError, _parse_error)
    api.add_exception_handler(ValidationError, _validation_error)
