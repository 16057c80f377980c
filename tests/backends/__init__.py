"""What the tests run against besides this library: a PostgreSQL of their own, a browser.

Each is a Debian package (``install.sh`` installs it). Where one is missing its tests are skipped with the reason;
under ``CI=true`` they fail, so that a green CI has run them.
"""

import contextlib
import os
import pwd
import shutil
import socket
from pathlib import Path
from typing import NoReturn


def missing(what: str, mend: str) -> NoReturn:
    """Skip the test that needs ``what``; fail it in CI."""
    import pytest  # not above: the benchmarks use what is beside this, and have no pytest

    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must not skip it: {mend}", pytrace=False)
    pytest.skip(f"{what} is missing: {mend}")


def unprivileged(folder: Path) -> list[str]:
    """What `setpriv` is told to run a server as somebody else than root, who is given the folder; nothing if we are."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            return [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return missing("an unprivileged user", "root cannot run this server; neither 'postgres' nor 'nobody' exists here")


def postgresql_programs() -> Path | None:
    """Where initdb and postgres lie: Debian keeps them off the PATH, one folder per version. None: not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
