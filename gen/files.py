"""Files: read with a readable error, and output that is complete or not there."""

import os
from collections.abc import Callable
from pathlib import Path

from rowmesh.gen.errors import RowmeshError

__all__ = ["check_folder", "read_file", "write_in_one_step"]


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises
    ------
    RowmeshError
        It cannot be read; says why.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise RowmeshError(f"{path}: {error.strerror}") from None


def write_in_one_step(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in the place of `path`.

    Raises
    ------
    RowmeshError
        The file cannot be written; nothing is left behind.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    except OSError as error:
        raise RowmeshError(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def check_folder(out: Path) -> None:
    """Refuse a path that cannot be written, before work that takes minutes."""
    if not out.parent.is_dir():
        raise RowmeshError(f"cannot write {out}: the folder {out.parent} does not exist")
    if out.is_dir():
        raise RowmeshError(f"cannot write {out}: it is a folder")
