"""From a configuration to the bitstream of a board, with Yosys, nextpnr-ecp5 and ecppack.

Steps: RTLIL, synthesis, room on the FPGA, placing and routing (once a seed), bitstream, report.
"""

import hashlib
import inspect
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
from rowmesh.synth.fpga_pll import Pll, find_pll
from rowmesh.synth.fpga_report import FpgaReport, NetworkTime
from rowmesh.synth.fpga_stat import check_room, read_stat, synth_script
from rowmesh.synth.fpga_steps import Steps
from rowmesh.synth.fpga_timing import Timing, read_timing
from rowmesh.synth.fpga_tools import ECPPACK, NEXTPNR, YOSYS, FoundTool
from rowmesh.synth.process import Progress, quiet, run_logged

__all__ = ["TOP", "FpgaJob", "build", "design_rtlil"]

#: Module of the whole board.
TOP = "rowmesh_board"

MakeDesign = Callable[[Config, float, int], fpga_top.Design]


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


def design_rtlil(job: FpgaJob) -> str:
    """The whole board in RTLIL; memories as an FPGA has them."""
    design = job.make_design(job.config, job.pll.clock_hz, job.memory_bytes)
    top = fpga_top.BoardTop(design, job.board, job.pll)
    return verilog.emit_rtlil(top, TOP, platform=job.board)


def build(
    job: FpgaJob,
    *,
    synth_only: bool = False,
    networks: Callable[[], tuple[NetworkTime, ...]] = tuple,
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
    networks : callable
        Gives the networks whose time the report shall say.
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
    flow = _Flow(job, progress, status)
    flow.find_tools(synth_only)
    flow.generate()
    flow.synthesize()
    timings: list[Timing] = []
    if not synth_only:
        timings = [flow.place_and_route(seed) for seed in job.seeds]
    report = FpgaReport(
        config=job.config,
        config_name=job.config_name,
        board=job.board,
        clock_mhz=job.pll.clock_hz / 1e6,
        memory_bytes=job.memory_bytes,
        tools=tuple(str(tool) for tool in flow.tools.values()),
        usages=flow.usages,
        timings=tuple(timings),
        networks=networks(),
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


class _Flow:
    """The steps of one job."""

    def __init__(self, job: FpgaJob, progress: Progress, status: Progress) -> None:
        self.job, self.progress, self.status = job, progress, status
        self.steps = Steps(job.folder, progress)
        self.tools: dict[str, FoundTool] = {}

    def find_tools(self, synth_only: bool) -> None:
        """All before the first step, which takes long."""
        for tool in (YOSYS,) if synth_only else (YOSYS, NEXTPNR, ECPPACK):
            self.tools[tool.name] = found = tool.find(self.status)
            self.progress(f"using {found}")

    def generate(self) -> None:
        """RTLIL of the board, and its constraints."""
        job = self.job

        def work(parts: Mapping[str, str]) -> None:
            self.status("generating RTLIL")
            text = design_rtlil(job)
            (job.folder / parts["design.il"]).write_text(text, encoding="utf-8")
            (job.folder / parts["board.lpf"]).write_text(job.board.lpf(), encoding="utf-8")

        design = (job.make_design.__module__, job.make_design.__qualname__)
        wanted = (job.config.to_toml(), repr(job.board), repr(job.pll), str(job.memory_bytes))
        self._step("generate", ("design.il", "board.lpf"), work, (*design, *wanted, _sources()))

    def synthesize(self) -> None:
        """Netlist for the FPGA; then compare what it takes with what there is."""
        folder = self.job.folder
        text = (folder / "design.il").read_text(encoding="utf-8")
        modules = list(verilog.instance_counts(text, TOP))
        plain = synth_script("design.il", TOP, modules, "stat.json", "netlist.json")
        mapped = 0

        def watch(line: str) -> None:
            nonlocal mapped
            if line.startswith("Extracted ") and "from module" in line:
                mapped += 1
                self.status(f"synth: {line.split('`')[1].split(chr(39))[0]} (part {mapped})")

        def work(parts: Mapping[str, str]) -> None:
            self.status(f"synth: {len(modules)} distinct modules")
            script = synth_script(
                "design.il", TOP, modules, parts["stat.json"], parts["netlist.json"]
            )
            (folder / "synth.ys").write_text(script, encoding="utf-8")
            self._run("yosys", ["synth.ys"], "synth", watch)

        inputs = (plain, self.tools["yosys"].version)
        self._step("synth", ("stat.json", "netlist.json"), work, inputs, ("design.il",))
        self.usages = read_stat(folder / "stat.json", TOP)
        check_room(self.usages, self.job.board)

    def place_and_route(self, seed: int) -> Timing:
        """One placement; a clock that is too slow is no failure here."""
        board = self.job.board
        config, report = f"seed_{seed}.config", f"seed_{seed}.json"
        options = [
            board.device_option,
            *("--package", board.package, "--speed", board.speed),
            *("--json", "netlist.json", "--lpf", "board.lpf"),
            *("--freq", f"{self.job.pll.clock_hz / 1e6:g}"),
            *("--seed", str(seed), "--timing-allow-fail"),
        ]
        name = f"place_{seed}"

        def watch(line: str) -> None:
            text = line.removeprefix("Info:").strip()
            if text and not text.startswith(("Source", "Sink", "Defined", "/", "routing", "logic")):
                self.status(f"{name}: {text[:60]}")

        def work(parts: Mapping[str, str]) -> None:
            written = ["--textcfg", parts[config], "--report", parts[report]]
            self._run("nextpnr-ecp5", [*options, *written], name, watch)

        inputs = (*options, self.tools["nextpnr-ecp5"].version)
        self._step(name, (config, report), work, inputs, ("netlist.json", "board.lpf"))
        timing = read_timing(self.job.folder / report, seed)
        self.progress(f"{name}: {timing.fmax_mhz:.1f} MHz of {timing.target_mhz:.1f} MHz")
        return timing

    def pack(self, seed: int, bitstream: str) -> None:
        """The bitstream of one placement."""
        config = f"seed_{seed}.config"

        def work(parts: Mapping[str, str]) -> None:
            self._run("ecppack", ["--compress", config, parts[bitstream]], "pack", quiet)

        self._step("pack", (bitstream,), work, (self.tools["ecppack"].version,), (config,))

    # -- parts ---------------------------------------------------------------------------------

    def _step(
        self,
        name: str,
        outputs: Sequence[str],
        work: Callable[[Mapping[str, str]], None],
        texts: Sequence[str],
        files: Sequence[str] = (),
    ) -> None:
        if self.steps.run(name, outputs, work, texts=texts, files=files):
            self.progress(f"{name}: done")

    def _run(self, tool: str, options: Sequence[str], name: str, watch: Progress) -> None:
        run_logged(
            [self.tools[tool].command, *options],
            self.job.folder,
            name=name,
            subject=f"{self.job.folder / name}.log",
            watch=watch,
            progress=self.status,
        )


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
