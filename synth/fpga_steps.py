"""Steps of a flow that are not done again when what they depend on has not changed."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rowmesh.synth.process import Progress

__all__ = ["Steps"]

#: Before the name of an output while it is written.
_PART = "part-"


class Steps:
    """Runs steps in a folder.

    A step writes its outputs under other names; they get their own when all are complete, and then
    a stamp says what they were made from. So an interrupted step leaves none of its outputs, and
    the next run begins with that step.

    Parameters
    ----------
    folder : Path
        Where outputs, logs and stamps lie.
    progress : callable
        Is told which step is done or was done before.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.progress = progress
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        name: str,
        outputs: Sequence[str],
        work: Callable[[Mapping[str, str]], None],
        *,
        texts: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> bool:
        """Do a step unless its outputs are there, made from the same inputs.

        Parameters
        ----------
        name : str
            Of the step.
        outputs : sequence of str
            Names of files in the folder.
        work : callable
            Does the step; is given the name under which to write each output.
        texts, files : sequence of str
            What the outputs depend on: texts as they are, and contents of files in the folder.

        Returns
        -------
        bool
            Whether the step was done now.
        """
        key = self._key(name, texts, files)
        stamp = self.folder / f"{name}.stamp.json"
        if self._valid(stamp, key, outputs):
            self.progress(f"{name}: nothing has changed")
            return False
        stamp.unlink(missing_ok=True)
        parts = {output: _PART + output for output in outputs}
        try:
            work(parts)
            for output, part in parts.items():
                os.replace(self.folder / part, self.folder / output)
        finally:
            for part in parts.values():
                (self.folder / part).unlink(missing_ok=True)
        sizes = {output: (self.folder / output).stat().st_size for output in outputs}
        written = self.folder / f"{_PART}{name}.stamp.json"
        written.write_text(json.dumps({"inputs": key, "sizes": sizes}) + "\n", encoding="utf-8")
        os.replace(written, stamp)
        return True

    def _key(self, name: str, texts: Sequence[str], files: Sequence[str]) -> str:
        digest = hashlib.sha256(json.dumps([name, *texts]).encode())
        for file in files:
            with open(self.folder / file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def _valid(self, stamp: Path, key: str, outputs: Sequence[str]) -> bool:
        try:
            found = json.loads(stamp.read_text(encoding="utf-8"))
            sizes = {output: (self.folder / output).stat().st_size for output in outputs}
        except (OSError, ValueError):
            return False
        return bool(found == {"inputs": key, "sizes": sizes})
