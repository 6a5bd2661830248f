"""What holds for every answer: a content security policy, and who may come in at all."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse

Handler = Callable[[HttpRequest], HttpResponseBase]

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_OPEN_TO_ALL = ("/accounts/", "/static/", "/healthz/", "/setup/")


class ContentSecurityPolicy:
    """Nothing from elsewhere, no inline script, no inline style."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        return response


class SignedInOnly:
    """With ACCESS=signed-in everybody signs in first; programs get 401 in the API's shape."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        private = settings.ACCESS == "signed-in" and not request.path.startswith(_OPEN_TO_ALL)
        if private and not request.user.is_authenticated:
            return self._refuse(request)
        return self.get_response(request)

    @staticmethod
    def _refuse(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/api/"):
            message = "This server asks everybody to sign in."
            return JsonResponse({"error": {"field": None, "message": message}}, status=401)
        return redirect(f"{reverse('login')}?next={request.path}")
