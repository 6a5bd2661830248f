"""Secrets that the embedded mode makes for itself, each once, in a file only its owner reads."""

import secrets
from pathlib import Path


def read_or_make(path: Path) -> str:
    """The secret in `path`; made with mode 600 when there is none. Safe when several processes start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        pass
    else:
        path.write_text(secrets.token_urlsafe(50), encoding="ascii")
    return path.read_text(encoding="ascii").strip()
