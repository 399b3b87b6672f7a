"""From a configuration to the bitstream of a board, with Yosys, nextpnr-ecp5 and ecppack.

Steps: RTLIL, synthesis, room on the FPGA, placing and routing (once a seed), bitstream, report.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rowmesh.rtl
from rowmesh.gen import rtlil_fold, verilog
from rowmesh.gen.errors import RowmeshError
from rowmesh.rtl.config import Config
from rowmesh.synth import fpga_pll, fpga_top
from rowmesh.synth.boards import Board, load_board
from rowmesh.synth.fpga_flow import SOURCE, Flow
from rowmesh.synth.fpga_pll import Pll, find_pll
from rowmesh.synth.fpga_report import FpgaReport, NetworkTime
from rowmesh.synth.fpga_stat import check_room
from rowmesh.synth.fpga_timing import Timing
from rowmesh.synth.fpga_tools import ECPPACK, NEXTPNR, YOSYS
from rowmesh.synth.process import Progress, quiet

__all__ = ["TOP", "FpgaJob", "build", "design_rtlil", "plain_names"]

#: Module of the whole board.
TOP = "rowmesh_board"

#: Constraints: pins, and the oscillator.
_LPF = "board.lpf"

MakeDesign = Callable[[Config, float, int], Any]


@dataclass(frozen=True, kw_only=True)
class FpgaJob:
    """What to build.

    Parameters
    ----------
    config : Config
        The accelerator.
    config_name : str
        What the report calls it.
    board : Board
        Where it shall run.
    mhz : float
        Clock that it shall run at.
    seeds : tuple of int
        Of the placer: one result each; the fastest becomes the bitstream.
    memory_bytes : int
        Block RAM that is the memory of the accelerator.
    folder : Path
        For results, logs and what is in between.
    make_design : callable
        From configuration, clock in Hz and bytes of memory to what runs on the board.

    Raises
    ------
    RowmeshError
        No seed, or a frequency that the PLL cannot make.
    """

    config: Config
    config_name: str
    board: Board
    mhz: float
    seeds: tuple[int, ...]
    memory_bytes: int
    folder: Path
    make_design: MakeDesign = fpga_top.make_shell

    def __post_init__(self) -> None:
        if not self.seeds:
            raise RowmeshError("seeds = (): at least one is needed")
        if not self.mhz > 0:
            raise RowmeshError(f"frequency {self.mhz:g} MHz: must be more than 0")
        _ = self.pll

    @classmethod
    def of(
        cls,
        config: Config,
        config_name: str,
        board: str,
        folder: Path,
        *,
        mhz: float,
        seeds: Sequence[int] = (1,),
        memory_kib: int | None = None,
    ) -> "FpgaJob":
        """A job for a board by its name; by default with as much memory as suits its FPGA."""
        found = load_board(board)
        memory = found.device.memory_bytes if memory_kib is None else memory_kib << 10
        return cls(
            config=config,
            config_name=config_name,
            board=found,
            mhz=mhz,
            seeds=tuple(seeds),
            memory_bytes=memory,
            folder=folder,
        )

    @cached_property
    def pll(self) -> Pll:
        """Makes the clock."""
        return find_pll(self.board.clock_hz, self.mhz * 1e6)

    def options(self) -> list[str]:
        """Of nextpnr-ecp5; its other router takes an hour."""
        return [
            *self.board.options(),
            *("--placer", self.board.device.placer, "--router", "router2"),
            *("--lpf", _LPF, "--freq", f"{self.pll.clock_hz / 1e6:g}"),
        ]


def design_rtlil(job: FpgaJob) -> str:
    """The whole board in RTLIL; memories as an FPGA has them."""
    design = job.make_design(job.config, job.pll.clock_hz, job.memory_bytes)
    top = fpga_top.BoardTop(design, job.board, job.pll)
    return plain_names(verilog.emit_rtlil(top, TOP, platform=job.board))


def plain_names(text: str) -> str:
    """RTLIL in which no signal is named like a bit of another one: ``ring.0`` for ``ring[0]``.

    The AIGER reader of Yosys takes one for the other, which ends in two drivers of a bit.
    """
    return re.sub(r"\\\S*\[\S*", lambda m: m[0].replace("[", ".").replace("]", ""), text)


def build(
    job: FpgaJob,
    *,
    synth_only: bool = False,
    networks: tuple[NetworkTime, ...] = (),
    progress: Progress = quiet,
    status: Progress = quiet,
) -> FpgaReport:
    """Build the bitstream ``<board>.bit``, ``report.json`` and ``report.md`` in the job's folder.

    Parameters
    ----------
    job : FpgaJob
        What to build.
    synth_only : bool
        Stop behind the check that the FPGA has the room; the report has no timing.
    networks : tuple of NetworkTime
        Networks whose time the report says.
    progress, status : callable
        Are told what is done, and what goes on within a step.

    Returns
    -------
    FpgaReport
        What was written.

    Raises
    ------
    RowmeshError
        The FPGA has not the room, a tool is missing or too old, or no seed meets the frequency:
        then there is a report, and no bitstream.
    RuntimeError
        A tool failed; carries the end of its log.
    """
    tools = (YOSYS,) if synth_only else (YOSYS, NEXTPNR, ECPPACK)
    flow = Flow(job.folder, TOP, tools, progress=progress, status=status)
    _generate(job, flow)
    usages = flow.synthesize(job.pll.clock_hz / 1e6)
    check_room(usages, job.board)
    timings: list[Timing] = []
    if not synth_only:
        timings = [flow.place_and_route(seed, job.options(), files=[_LPF]) for seed in job.seeds]
    report = FpgaReport(
        config=job.config,
        config_name=job.config_name,
        board=job.board,
        clock_mhz=job.pll.clock_hz / 1e6,
        memory_bytes=job.memory_bytes,
        tools=tuple(str(tool) for tool in flow.tools.values()),
        usages=usages,
        timings=tuple(timings),
        networks=networks,
    )
    bitstream = f"{job.board.name}.bit"
    report.write(job.folder)
    progress(f"{job.folder / 'report.md'} and report.json written")
    if timings:
        best = max(timings, key=lambda timing: timing.fmax_mhz)
        if not best.met:
            (job.folder / bitstream).unlink(missing_ok=True)
            raise RowmeshError(
                f"timing not met: {best.fmax_mhz:.1f} MHz of {best.target_mhz:.1f} MHz "
                f"(seed {best.seed}), so no bitstream was written; slowest path: {best.describe()}"
            )
        flow.pack(best.seed, bitstream)
        progress(f"{job.folder / bitstream}: {best.fmax_mhz:.1f} MHz, seed {best.seed}")
    return report


def _generate(job: FpgaJob, flow: Flow) -> None:
    """RTLIL of the board, and its constraints."""

    def work(parts: Mapping[str, str]) -> None:
        flow.status("generating RTLIL")
        text = design_rtlil(job)
        (job.folder / parts[SOURCE]).write_text(text, encoding="utf-8")
        (job.folder / parts[_LPF]).write_text(job.board.lpf(), encoding="utf-8")

    design = (job.make_design.__module__, job.make_design.__qualname__)
    wanted = (job.config.to_toml(), repr(job.board), repr(job.pll), str(job.memory_bytes))
    flow.step("generate", (SOURCE, _LPF), work, (*design, *wanted, _sources()))


def _sources() -> str:
    """Digest of what the RTLIL follows from beside the configuration."""
    digest = hashlib.sha256(version("amaranth").encode())
    modules: list[Any] = [verilog, rtlil_fold, fpga_top, fpga_pll]
    files = [Path(inspect.getfile(module)) for module in modules]
    for folder in rowmesh.rtl.__path__:
        files += Path(folder).rglob("*.py")
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
