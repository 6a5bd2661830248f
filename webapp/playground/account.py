"""A person's own page: keys for programs, what is remembered, everything deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from webapp.jobs import keys, services
from webapp.jobs.models import ApiKey, File, Job, Remembered
from webapp.jobs.owners import owner_of, owner_who_reads
from webapp.playground import reset
from webapp.playground.lookup import posted


def _page(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    owner = owner_who_reads(request)
    remembered = [
        (tasks.get(row.task), tasks.get(row.task).options[row.option], row)
        for row in Remembered.objects.filter(owner.query)
        if row.task in tasks.names() and row.option in tasks.get(row.task).options and row.value
    ]
    shared = {
        "keys": ApiKey.objects.filter(user__pk=owner.user_id or 0),
        "remembered": [(spec, field, field.show(row.value), row.pk) for spec, field, row in remembered],
        "jobs": Job.objects.filter(owner.query).count(),
        "photos": File.objects.filter(owner.query).count(),
        "most_keys": keys.MOST,
        "mail": reset.configured(),
    }
    return render(request, "playground/account.html", {**shared, **context}, status=status)


@require_safe
@login_required
@never_cache
@ensure_csrf_cookie
def account(request: HttpRequest) -> HttpResponse:
    """What this account has here."""
    return _page(request)


@posted("account")
@login_required
@never_cache
def make_key(request: HttpRequest) -> HttpResponse:
    """Make a key and show it, this once."""
    limit = request.POST.get("daily_limit", "").strip()
    try:
        if limit and not (limit.isdecimal() and len(limit) <= 9):
            raise InvalidInput("daily_limit", "A daily limit is a whole number of jobs; leave it empty for none.")
        number = int(limit) if limit else None
        key, text = keys.make(request.user, request.POST.get("name", ""), daily_limit=number)
    except InvalidInput as error:
        typed = {"key_name": request.POST.get("name", ""), "key_limit": limit}
        return _page(request, 422, key_error=error.message, error_field=error.field, **typed)
    return _page(request, made=key, made_text=text)


@posted("account")
@login_required
def revoke_key(request: HttpRequest, pk: int) -> HttpResponse:
    """End one of the account's keys."""
    key = get_object_or_404(ApiKey, pk=pk, user_id=owner_of(request).user_id)
    keys.revoke(key)
    messages.success(request, f"The key “{key.name}” is revoked.")
    return redirect("account")


@posted("account")
@login_required
def forget(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget one remembered option."""
    Remembered.objects.filter(owner_of(request).query, pk=pk).delete()
    return redirect("account")


@posted("account")
@login_required
def delete_everything(request: HttpRequest) -> HttpResponse:
    """Erase jobs, batches, files, proposals and what is remembered; the account itself stays."""
    owner = owner_of(request)
    if request.POST.get("sure") != "yes":
        return _page(request, 422, delete_error="Tick the box first: this cannot be undone.")
    services.erase_everything(owner)
    messages.success(request, "Everything of yours is deleted.")
    return redirect("account")


@posted("account")
@login_required
def set_email(request: HttpRequest) -> HttpResponse:
    """Where links for a new password go; whoever changes it shows the password."""
    address = request.POST.get("email", "").strip()
    person: Any = request.user
    if not person.check_password(request.POST.get("password", "")):
        wrong = "That is not your password. The address stays as it is."
        return _page(request, 422, mail_error=wrong, mail_field="password", mail_address=address)
    try:
        if address:
            validate_email(address)
        if len(address) > 254:
            raise ValidationError("too long")
    except ValidationError:
        wrong = "That is no e-mail address. It looks like name@example.org."
        return _page(request, 422, mail_error=wrong, mail_field="email", mail_address=address)
    person.email = address
    person.save(update_fields=["email"])
    messages.success(request, f"Links for a new password go to {address}." if address else "The address is removed.")
    return redirect("account")
