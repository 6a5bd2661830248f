"""manage.py backup FILE.tar.gz."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.jobs import backup


class Command(BaseCommand):
    """Write a backup."""

    help = "Write database, uploads and bundles into one file."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which file."""
        parser.add_argument("path", type=Path, metavar="FILE.tar.gz")

    def handle(self, *args: Any, path: Path, **options: Any) -> None:
        """Say what it holds."""
        try:
            found = backup.write(path)
        except backup.BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{path} holds {found['jobs']:,} jobs, {found['files']:,} files and {found['bundles']} bundles."
        )
