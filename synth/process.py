"""Run a tool of synthesis: its log is kept, and its failure is an error with the end of the log."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Progress", "quiet", "run_logged"]

#: Takes one line of what is going on.
Progress = Callable[[str], None]

#: The builds from PyPI say this before they compile themselves.
_COMPILES = "Preparing to run"
_LOG_LINES = 15


def quiet(message: str) -> None:
    """Progress that nobody wants to see."""


def run_logged(
    command: Sequence[str],
    folder: Path,
    *,
    name: str,
    subject: str,
    watch: Progress,
    progress: Progress,
) -> None:
    """Run a command in a folder and write what it says to ``<name>.log`` there.

    Parameters
    ----------
    command : sequence of str
        Program and arguments. The WebAssembly builds see no other ``/tmp`` than their own, so
        files must be named relative to the folder.
    folder : Path
        Working directory.
    name : str
        Of the log.
    subject : str
        What the error message says that the program failed on.
    watch : callable
        Is given every line of the log as it comes.
    progress : callable
        Is told about the first start of a WebAssembly build, which takes long.

    Raises
    ------
    RuntimeError
        The program failed; carries the end of its log.
    """
    program = Path(command[0]).name
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
        open(folder / f"{name}.log", "w", encoding="utf-8", buffering=1) as log,  # lines
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            lines = [*lines[1 - _LOG_LINES :], line]
            if line.startswith(_COMPILES):
                progress(f"compiling {program} from WebAssembly: minutes, the first time only")
            watch(line.rstrip("\n"))
    if process.returncode:
        end = "".join(line for line in lines if line.strip())
        raise RuntimeError(
            f"{program} failed on {subject} (status {process.returncode}):\n{end}".rstrip()
        )
