"""The one-time link that makes the first administrator."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.forms import UserCreationForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from webapp.playground.entrance import save_account
from webapp.secret import read_or_make


def setup_path() -> str | None:
    """Path of the link, as long as there is no administrator."""
    if get_user_model().objects.filter(is_superuser=True).exists():
        settings.SETUP_TOKEN_FILE.unlink(missing_ok=True)
        return None
    return f"/setup/{read_or_make(settings.SETUP_TOKEN_FILE)}/"


@never_cache
def first_administrator(request: HttpRequest, token: str) -> HttpResponse:
    """A form for name and password; the link works until it was used."""
    path = setup_path()
    if path is None or not secrets.compare_digest(path.encode(), f"/setup/{token}/".encode()):
        raise Http404
    form: UserCreationForm[Any] = UserCreationForm(request.POST or None)
    rights = {"is_staff": True, "is_superuser": True}
    if request.method == "POST" and form.is_valid() and (user := save_account(form, **rights)) is not None:
        settings.SETUP_TOKEN_FILE.unlink(missing_ok=True)
        login(request, user)
        return redirect("admin:index")
    return render(request, "registration/setup.html", {"form": form})
