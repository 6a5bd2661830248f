"""manage.py retention: erase what is older than it is kept, now."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from webapp.jobs import upkeep


class Command(BaseCommand):
    """What runs by the clock each hour."""

    help = "Erase jobs, batches and uploads older than RETENTION_DAYS."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say how many went."""
        self.stdout.write(f"{upkeep.delete_old()} jobs older than {settings.RETENTION_DAYS} days were erased.")
