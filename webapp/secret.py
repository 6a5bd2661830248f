"""Secrets: made by the embedded mode for itself, each once, in a file only its owner reads; demanded in production."""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path


def read_or_make(path: Path) -> str:
    """The secret in `path`; made with mode 600 when there is none. Safe when several processes start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if found := path.read_text(encoding="ascii").strip() if path.exists() else "":
        return found
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):  # another process was quicker: its secret counts
            os.link(name, path)
        if not path.stat().st_size:  # left empty by a full disk, or by a process that ended
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path.read_text(encoding="ascii").strip()


def production_problem(key: str, environment: Mapping[str, str]) -> str | None:
    """What keeps a server with PRODUCTION=on from starting, in one sentence; None when all is given."""
    how = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    if not key:
        return f"PRODUCTION is on and SECRET_KEY is missing. {how}"
    if len(key) < 50 or len(set(key)) < 5 or key.startswith(("change-me", "django-insecure-")):
        return f"PRODUCTION is on and SECRET_KEY is the example's or easily guessed. {how}"
    hosts = [part.strip() for part in environment.get("ALLOWED_HOSTS", "").split(",") if part.strip()]
    if not hosts or "*" in hosts:
        return "PRODUCTION is on and ALLOWED_HOSTS is missing or *: say the names that people reach this server by."
    return None
