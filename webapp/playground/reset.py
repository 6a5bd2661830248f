"""A forgotten password, by e-mail where the operator named a mail server; elsewhere an administrator sets a new one."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordResetForm
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import reverse_lazy

from webapp.jobs.owners import client_address

MAILS = 5  # from one address an hour
WAITING = 50  # mails; a server that hangs takes no more
logger = logging.getLogger(__name__)
_mailer = ThreadPoolExecutor(1, thread_name_prefix="mail")
_room = threading.BoundedSemaphore(WAITING)
TEMPLATE = "registration/step.html"


class _Form(PasswordResetForm):
    request: HttpRequest  # set by the view

    def send_mail(self, *arguments: Any, **named: Any) -> None:
        """Behind the answer's back: how long it takes must not tell whether the address is known."""
        if not _room.acquire(blocking=False):
            logger.error("a link for a new password is not mailed: %d mails wait already", WAITING)
            return
        _mailer.submit(super().send_mail, *arguments, **named).add_done_callback(_sent)

    def clean(self) -> dict[str, Any]:
        """Count mails by the address that asks."""
        key = f"reset:{client_address(self.request)}"
        cache.add(key, 0, 3600)
        if cache.incr(key) > MAILS:
            raise ValidationError("Too many mails were asked for from here. Try again in an hour.", code="throttled")
        return super().clean() or {}


def _sent(mail: Future[None]) -> None:
    _room.release()
    if error := mail.exception():
        logger.error("a link for a new password was not mailed", exc_info=error)


def send_what_waits() -> None:
    """Before the process ends."""
    _mailer.shutdown(wait=True)


def configured() -> bool:
    """Whether links can be mailed: a mail server, and named hosts, for a link carries the name that was asked for."""
    return bool(settings.EMAIL_HOST) and "*" not in settings.ALLOWED_HOSTS


class _WhereConfigured:
    """404 where there is no mail server."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not configured():
            raise Http404
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc,no-any-return]


class Ask(_WhereConfigured, views.PasswordResetView):
    """Where to send the link."""

    form_class = _Form
    template_name = TEMPLATE
    email_template_name = "registration/reset_mail.txt"
    subject_template_name = "registration/reset_subject.txt"
    success_url = reverse_lazy("reset-sent")
    extra_context = {"title": "A new password", "button": "Send the link"}

    def get_form(self, form_class: Any = None) -> Any:
        """It counts by address."""
        form = super().get_form(form_class)
        form.request = self.request  # type: ignore[attr-defined]
        return form


class Sent(_WhereConfigured, views.PasswordResetDoneView):
    """The same words whether the address is known or not."""

    template_name = TEMPLATE
    extra_context = {
        "title": "A link is on its way",
        "hint": "If an account has this address, a mail with a link comes within minutes. The link works for one hour.",
    }


class Confirm(_WhereConfigured, views.PasswordResetConfirmView):
    """The page that the link opens."""

    template_name = TEMPLATE
    success_url = reverse_lazy("login")
    extra_context = {"title": "A new password", "button": "Set it"}

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """A link that was used, or is too old, says so."""
        found = super().get_context_data(**context)
        if not found["validlink"]:
            found |= {"form": None, "title": "This link is used up", "hint": "Ask for a new one on the sign-in page."}
        return found
