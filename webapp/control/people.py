"""Accounts, groups, and the log of what was done in the admin."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from webapp.control.base import LongList
from webapp.database import asked
from webapp.jobs import services
from webapp.jobs.models import ApiKey, Batch, Feedback, File, Job
from webapp.registry.models import Activation

admin.site.index_title = "Dashboard"
admin.site.unregister(User)
admin.site.unregister(Group)


def to_sign_in(request: HttpRequest) -> HttpResponse:
    """The product's one page to sign in by, which counts failures; who is in already learns what they lack."""
    if request.user.is_authenticated and not admin.site.has_permission(request):
        raise PermissionDenied("Your account may not enter the admin. An administrator can make it staff.")
    return redirect(f"{reverse('login')}?{request.GET.urlencode()}")


@asked
def may_install(scope: Any) -> bool:
    """Whether an ASGI request's session is that of somebody who may start operations; nothing of its body is read."""
    request = ASGIRequest({**scope, "method": "GET"}, io.BytesIO())
    request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    person = get_user(request)
    return person.is_active and person.has_perm("jobs.add_operation")


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc]
    """Accounts; a group says what its people may do here."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    filter_horizontal = ()
    list_display = ("username", "email", "is_staff", "is_active", "last_login", "date_joined")

    def get_deleted_objects(
        self, objs: Sequence[Any] | QuerySet[Any], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Who may delete an account may delete what is its person's, which is counted, not listed: it may be a million
        rows. Whom the admin's lists name stays."""
        people = list(objs)
        counts = {"accounts": len(people)}
        for model in (Job, Batch, File, Feedback, ApiKey):
            number = model._default_manager.filter(user__in=people).count()
            counts |= {str(model._meta.verbose_name_plural): number} if number else {}
        acted = {
            *LogEntry.objects.filter(user__in=people).values_list("user__username", flat=True),
            *Activation.objects.filter(by__in=people).values_list("by__username", flat=True),
        }
        kept = [f"What {name} did here, which lists here tell. Untick “Active” instead." for name in sorted(acted)]
        return [str(person) for person in people], counts, set(), kept

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """With jobs and files, of which the bytes lie outside the database."""
        services.erase_account(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """As `delete_model`, several."""
        for person in queryset:
            services.erase_account(person)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Viewer, operator, administrator, and whatever groups an administrator adds."""


@admin.register(LogEntry)
class LogEntryAdmin(LongList):
    """What people did here, newest first; switches of versions have a list of their own."""

    list_display = ("action_time", "user", "content_type", "object_repr", "what")
    list_filter = ("action_flag", "content_type")
    list_select_related = ("user", "content_type")
    search_fields = ("=user__username", "object_repr")
    ordering = ("-action_time",)

    @admin.display(description="what")
    def what(self, entry: LogEntry) -> str:
        """In words."""
        return entry.get_change_message() or entry.get_action_flag_display()
