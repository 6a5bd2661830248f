"""manage.py setup_link: the one-time address that makes the first administrator."""

from typing import Any

from django.core.management.base import BaseCommand

from webapp.playground.setup import setup_path


class Command(BaseCommand):
    """Print it, while it is still due."""

    help = "Print the one-time address that makes the first administrator, while there is none."

    def handle(self, *args: Any, **options: Any) -> None:
        """One line; nothing once there is an administrator."""
        if path := setup_path():
            self.stdout.write(f"Make the first administrator, once: {path} on this server's address.")
