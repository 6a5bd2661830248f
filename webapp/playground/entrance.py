"""Coming in: sign in with a limit on failures, and sign up where the operator allows it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from webapp.jobs.owners import client_address
from webapp.playground import reset

FAILURES = 10  # of one name from one address
FAILURES_FROM_ONE = 100  # of all names from one address
PAUSE_S = 15 * 60


def _limits(request: HttpRequest, name: str) -> dict[str, int]:
    """Counters of failures, and how many each allows."""
    address = f"sign-in:{client_address(request)}"
    return {f"{address}:{name.casefold()[:150]}".replace(" ", "_"): FAILURES, address: FAILURES_FROM_ONE}


class SignInForm(AuthenticationForm):
    """Refuses after too many failures, in words, whether the name exists or not."""

    def clean(self) -> dict[str, Any]:
        """Count failures by name and address, and by address; a success clears the name's."""
        assert self.request is not None
        limits = _limits(self.request, str(self.cleaned_data.get("username", "")))
        if any(cache.get(key, 0) >= most for key, most in limits.items()):
            raise ValidationError(f"Too many failures. Try again in {PAUSE_S // 60} minutes.", code="throttled")
        try:
            found = super().clean()
        except ValidationError:
            for key in limits:
                cache.add(key, 0, PAUSE_S)
                cache.incr(key)
            raise
        if self.user_cache is not None:  # without a password nothing was tried, and nothing is raised here
            cache.delete(next(iter(limits)))
        return found


class SignIn(LoginView):
    """The page of it."""

    authentication_form = SignInForm

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """Also whether one may sign up, and be sent a link for a new password."""
        return super().get_context_data(**context, sign_up=settings.SIGN_UP, mail=reset.configured())


def save_account(form: UserCreationForm[Any], **rights: bool) -> Any:
    """The account that a valid form makes; None, and an error at the name, where another request has just taken it."""
    user = form.save(commit=False)
    for name, value in rights.items():
        setattr(user, name, value)
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:
        form.add_error("username", "This name is taken.")
        return None
    return user


@never_cache
def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account of one's own; 404 where the operator does not allow it."""
    if not settings.SIGN_UP:
        raise Http404
    form: UserCreationForm[Any] = UserCreationForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and (user := save_account(form)) is not None:
        login(request, user)
        return redirect("home")
    return render(request, "registration/sign_up.html", {"form": form})
