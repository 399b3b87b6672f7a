"""What the demo runs in processes of their own: the simulated accelerator, and the synthesis."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.graph import Array
from rowmesh.gen.runtime import Measure, Runtime
from rowmesh.rtl.config import Config

__all__ = ["RtlImage", "measure_area", "run_image", "start_worker"]


@dataclass(frozen=True)
class RtlImage:
    """One image on the RTL.

    Parameters
    ----------
    values : dict of ndarray of int8
        Every tensor that the accelerator made.
    cycles, bytes_read, bytes_written : int
        Of the undisturbed run.
    layers : list of Measure
        Of a second run that pauses behind every layer.
    stepped_mismatches : int
        Values that differ between the two runs.
    """

    values: dict[str, Array]
    cycles: int
    bytes_read: int
    bytes_written: int
    layers: list[Measure]
    stepped_mismatches: int


class _Worker:
    """The machine of a worker process."""

    runtime: Runtime


def start_worker(compiled: Compiled) -> None:
    """Give this process a machine of its own; the simulation is built already."""
    from rowmesh.verif.fast.machine import FastMachine

    machine = FastMachine(compiled.config, len(compiled.image))
    _Worker.runtime = Runtime(compiled, machine)


def run_image(inputs: Mapping[str, Array], counters: bool) -> RtlImage:
    """Run one image, at once and again layer by layer.

    Parameters
    ----------
    inputs : mapping of ndarray of int8, [1, ...]
    counters : bool
        Read the activity counters of every PE behind every layer.
    """
    plain = _Worker.runtime.run(inputs)
    stepped = _Worker.runtime.run(inputs, per_layer=True, counters=counters)
    (measures,) = plain.images
    made = [name for name in plain.values if name not in inputs]
    return RtlImage(
        values={name: plain.values[name] for name in made},
        cycles=plain.cycles(0),
        bytes_read=sum(measure.bytes_read for measure in measures),
        bytes_written=sum(measure.bytes_written for measure in measures),
        layers=stepped.images[0],
        stepped_mismatches=sum(
            int((stepped.values[name] != plain.values[name]).sum()) for name in made
        ),
    )


def measure_area(config: Config, folder: Path) -> dict[str, Any]:
    """Area of a configuration; kept in `folder` for as long as its Verilog stays the same.

    Returns
    -------
    dict
        ``nand2, flip_flops, spad_bits, sram_bits``.
    """
    from rowmesh.gen.generate import TOP
    from rowmesh.gen.verilog import emit
    from rowmesh.rtl.top import Top
    from rowmesh.synth.area import report

    digest = hashlib.sha256(emit(Top(config), TOP).encode()).hexdigest()
    kept = folder / "area.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if found.pop("verilog") == digest:
            return found
    with (folder / "area.txt").open("w", encoding="utf-8") as file:

        def note(line: str) -> None:
            print(line, file=file, flush=True)

        with contextlib.redirect_stdout(file):
            measured = report(config, progress=note)
    result = {
        key: getattr(measured, key) for key in ("nand2", "flip_flops", "spad_bits", "sram_bits")
    }
    kept.write_text(json.dumps({"verilog": digest, **result}) + "\n", encoding="utf-8")
    return result
