"""Verilator's run-time library: the same for every design, and most of a small one's build."""

import shutil
from pathlib import Path

from rowmesh.verif.builds import build_directory, digest, locked
from rowmesh.verif.verilator import found_verilator

__all__ = ["VerilatorRuntime"]


class VerilatorRuntime:
    """Its objects, compiled by one build and taken by the next.

    Parameters
    ----------
    options : str
        What else the objects depend on: flags of the compiler, users of the library.
    """

    def __init__(self, *options: str) -> None:
        kind = digest(found_verilator()[1], *options)
        self._folder = build_directory() / "sim" / f"runtime-{kind}"

    def objects(self) -> list[str]:
        """Paths of the objects; none before the first build.

        Copies of them in a build are newer than the makefile that Verilator wrote there, so make
        takes them.
        """
        return sorted(map(str, self._folder.glob("*.o")))

    def keep(self, build: Path) -> None:
        """Keep what a build has compiled, unless an earlier one has."""
        with locked(self._folder):
            if not self._folder.exists():
                part = self._folder.with_name(f"{self._folder.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                for path in build.glob("verilated*.o"):
                    shutil.copy(path, part)
                part.rename(self._folder)
