"""manage.py sync_bundles: install the bundles that come with the project."""

from typing import Any

from django.core.management.base import BaseCommand

from webapp.registry import services


class Command(BaseCommand):
    """Install shipped bundles; a damaged one is named and does not stop the rest."""

    help = "Install the bundles that come with the project."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what is wrong, if anything."""
        for fault in services.sync_shipped():
            self.stderr.write(f"Not installed: {fault}")
