"""The tools' part of the ECP5 flow: RTLIL to netlist, to placements, to a bitstream."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rowmesh.gen.verilog import instance_counts
from rowmesh.synth.fpga_stat import Usage, read_stat, synth_script
from rowmesh.synth.fpga_steps import Steps
from rowmesh.synth.fpga_timing import Timing, read_timing
from rowmesh.synth.fpga_tools import ECPPACK, NEXTPNR, YOSYS, FoundTool, Tool
from rowmesh.synth.process import Progress, quiet, run_logged

__all__ = ["SOURCE", "Flow"]

#: RTLIL that the steps begin with, and what synthesis makes of it.
SOURCE, NETLIST, STAT = "design.il", "netlist.json", "stat.json"

#: Written by Yosys itself.
_YOSYS_LOG = "yosys.log"

#: Lines of nextpnr that say nothing of where it is.
_DETAIL = ("Source", "Sink", "Defined", "/", "routing", "logic")


class Flow:
    """Steps on the design in a folder; see `Steps` for when one is done again.

    Parameters
    ----------
    folder : Path
        With `SOURCE`; gets everything else.
    top : str
        Top module.
    tools : sequence of Tool
        What will be used. Looked for now, so that a missing one shows before the long steps.
    progress, status : callable
        Are told what is done, and what goes on within a step.

    Raises
    ------
    RowmeshError
        A tool is missing or too old.
    """

    def __init__(
        self,
        folder: Path,
        top: str,
        tools: Sequence[Tool],
        *,
        progress: Progress,
        status: Progress = quiet,
    ) -> None:
        self.folder, self.top = folder, top
        self.progress, self.status = progress, status
        self.tools: dict[str, FoundTool] = {}
        for tool in tools:
            self.tools[tool.name] = found = tool.find(status)
            progress(f"using {found}")
        self._steps = Steps(folder, progress)

    def step(
        self,
        name: str,
        outputs: Sequence[str],
        work: Callable[[Mapping[str, str]], None],
        texts: Sequence[str],
        files: Sequence[str] = (),
    ) -> None:
        """Do a step unless nothing has changed: see `Steps.run`."""
        if self._steps.run(name, outputs, work, texts=texts, files=files):
            self.progress(f"{name}: done")

    def synthesize(self, mhz: float) -> tuple[Usage, ...]:
        """Make the netlist for a clock of so many MHz; what it takes, by component."""
        text = (self.folder / SOURCE).read_text(encoding="utf-8")
        modules = list(instance_counts(text, self.top))
        plain = synth_script(SOURCE, self.top, modules, STAT, NETLIST, mhz=mhz)
        mapped = 0

        def watch(line: str) -> None:
            nonlocal mapped
            if line.startswith("Extracted ") and "from module" in line:
                mapped += 1
                self.status(f"synth: {line.split('`')[1].split(chr(39))[0]} (part {mapped})")

        def work(parts: Mapping[str, str]) -> None:
            self.status(f"synth: {len(modules)} distinct modules")
            script = synth_script(SOURCE, self.top, modules, parts[STAT], parts[NETLIST], mhz=mhz)
            (self.folder / "synth.ys").write_text(script, encoding="utf-8")
            try:
                self._run(YOSYS, ["synth.ys", "-l", _YOSYS_LOG], "synth", watch)
            except RuntimeError as error:
                raise RuntimeError(f"{error}{self._last_error()}") from None

        self.step("synth", (STAT, NETLIST), work, (plain, self._version(YOSYS)), (SOURCE,))
        return read_stat(self.folder / STAT, self.top)

    def place_and_route(
        self,
        seed: int,
        options: Sequence[str],
        *,
        files: Sequence[str] = (),
        in_context: bool = True,
    ) -> Timing:
        """One placement; a clock that is too slow is no failure here.

        Parameters
        ----------
        seed : int
            Of the placer.
        options : sequence of str
            Device, constraints and clock for nextpnr-ecp5.
        files : sequence of str
            Files in the folder that the options name.
        in_context : bool
            A whole FPGA, of which a bitstream can be packed; else a block without pins.
        """
        name, config, report = f"place_{seed}", f"seed_{seed}.config", f"seed_{seed}.json"
        fixed = [*options, "--json", NETLIST, "--seed", str(seed), "--timing-allow-fail"]
        if not in_context:
            fixed.append("--out-of-context")

        def watch(line: str) -> None:
            text = line.removeprefix("Info:").strip()
            if text and not text.startswith(_DETAIL):
                self.status(f"{name}: {text[:60]}")

        def work(parts: Mapping[str, str]) -> None:
            written = ["--report", parts[report]]
            if in_context:
                written += ["--textcfg", parts[config]]
            self._run(NEXTPNR, [*fixed, *written], name, watch)

        outputs = (config, report) if in_context else (report,)
        self.step(name, outputs, work, (*fixed, self._version(NEXTPNR)), (NETLIST, *files))
        timing = read_timing(self.folder / report, seed)
        self.progress(f"{name}: {timing.fmax_mhz:.1f} MHz of {timing.target_mhz:.1f} MHz")
        return timing

    def pack(self, seed: int, bitstream: str) -> None:
        """Make the bitstream of one placement."""
        config = f"seed_{seed}.config"

        def work(parts: Mapping[str, str]) -> None:
            self._run(ECPPACK, ["--compress", config, parts[bitstream]], "pack", quiet)

        self.step("pack", (bitstream,), work, (self._version(ECPPACK),), (config,))

    def _last_error(self) -> str:
        """What Yosys itself wrote last: of the WebAssembly build all output ends with ABC's."""
        path = self.folder / _YOSYS_LOG
        if not path.exists():
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("ERROR")]
        return f"\n{_YOSYS_LOG}: {errors[-1]}" if errors else ""

    def _version(self, tool: Tool) -> str:
        return self.tools[tool.name].version

    def _run(self, tool: Tool, options: Sequence[str], name: str, watch: Progress) -> None:
        run_logged(
            [self.tools[tool.name].command, *options],
            self.folder,
            name=name,
            subject=f"{self.folder / name}.log",
            watch=watch,
            progress=self.status,
        )
