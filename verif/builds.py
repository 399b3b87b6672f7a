"""Where builds go, and how they are found again."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["build_directory", "digest", "locked", "tail"]


def build_directory() -> Path:
    """Where builds go: ``ROWMESH_BUILD``, else ``build`` in the current directory."""
    return Path(os.environ.get("ROWMESH_BUILD") or "build").resolve()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes (pytest-xdist workers build the same designs)."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.parent / f".{directory.name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(*parts: str) -> str:
    """Name of a build, from all that it is made of."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def tail(path: Path, lines: int = 60) -> str:
    """End of a log; empty where there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
