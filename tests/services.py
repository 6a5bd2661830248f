"""`make test-services`: the same suite on a PostgreSQL of its own and on Redis servers that listen on loopback.

Debian's servers (postgresql, redis-server) are enough; both run from temporary folders and leave nothing behind. Each
product that a test starts gets a database and a Redis of its own, see tests/stack/conftest.py.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def postgres_programs() -> Path:
    """Folder of initdb and pg_ctl; the newest that Debian keeps, else that of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    if not found and not on_path:
        sys.exit("There is no PostgreSQL server here. On Debian: apt-get install postgresql redis-server")
    return (found[-1] if found else Path(str(on_path))).parent


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """A new server without any durability; the URL of its database."""
    programs, port = postgres_programs(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="unroll-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data, log = folder / "data", folder / "log"

    def run(program: str, *arguments: str) -> None:
        # the server inherits its starter's streams: a pipe would never end
        with (folder / "said").open("w") as said:
            ended = subprocess.run([*as_user, programs / program, *arguments], cwd=folder, stdout=said, stderr=said)
        if ended.returncode:
            sys.exit(f"{program} failed: {(folder / 'said').read_text()[-2000:]}")

    run("initdb", "-D", str(data), "-U", "unroll", "--auth", "trust", "-E", "UTF8", "--locale", "C.UTF-8")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=200"
    try:
        run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "unroll", "unroll")
        yield f"postgres://unroll@127.0.0.1:{port}/unroll"
    finally:
        subprocess.run(
            [*as_user, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], cwd="/", capture_output=True
        )
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Start PostgreSQL, run pytest on it with these arguments."""
    if not shutil.which("redis-server"):
        sys.exit("There is no redis-server here. On Debian: apt-get install postgresql redis-server")
    with postgres() as url:
        print(f"PostgreSQL: {url}", flush=True)
        environment = {**os.environ, "DATABASE_URL": url, "UNROLL_TEST_SERVICES": "1"}
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
