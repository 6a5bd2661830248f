"""Coming in: sign in with a limit on failures, and sign up where the operator allows it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from webapp.jobs.owners import client_address
from webapp.playground import reset

FAILURES = 10  # of one name from one address
PAUSE_S = 15 * 60


def _key(request: HttpRequest, name: str) -> str:
    return f"sign-in:{client_address(request)}:{name.casefold()[:150]}".replace(" ", "_")


class SignInForm(AuthenticationForm):
    """Refuses after too many failures, in words, whether the name exists or not."""

    def clean(self) -> dict[str, Any]:
        """Count failures by name and address; a success clears them."""
        assert self.request is not None
        key = _key(self.request, str(self.cleaned_data.get("username", "")))
        if cache.get(key, 0) >= FAILURES:
            raise ValidationError(f"Too many failures. Try again in {PAUSE_S // 60} minutes.", code="throttled")
        try:
            found = super().clean()
        except ValidationError:
            cache.add(key, 0, PAUSE_S)
            cache.incr(key)
            raise
        cache.delete(key)
        return found


class SignIn(LoginView):
    """The page of it."""

    authentication_form = SignInForm

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """Also whether one may sign up, and be sent a link for a new password."""
        return super().get_context_data(**context, sign_up=settings.SIGN_UP, mail=reset.configured())


@never_cache
def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account of one's own; 404 where the operator does not allow it."""
    if not settings.SIGN_UP:
        raise Http404
    form: UserCreationForm[Any] = UserCreationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save())
        return redirect("home")
    return render(request, "registration/sign_up.html", {"form": form})
