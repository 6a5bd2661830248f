"""What the admin's pages share: rows that only services write, lists of a million rows without COUNT(*)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that only services write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted by hand."""
        return False


class ActingAdmin(ReadOnlyAdmin):
    """Read-only rows with actions, which need the change permission of their own."""

    def may_act(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the person holds the model's change permission."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    has_act_permission = may_act

    def on_record(self, request: HttpRequest, rows: Iterable[Any], done: str) -> None:
        """Who did what to which rows, into Django's log."""
        LogEntry.objects.log_actions(request.user.pk or 0, list(rows), CHANGE, done)


class LongList(ReadOnlyAdmin):
    """A list that is never counted: newer and older pages only."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_fullwidth = True
    list_disable_select_all = True  # nobody knows how many there are
