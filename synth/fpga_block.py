"""Room and clock of one PE alone on an ECP5: ``python -m rowmesh.synth.fpga_block``.

Placed out of context on an LFE5U-85F, speed grade 6: no I/O buffers; paths from and to the ports do
not count, those between registers do.
"""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from rowmesh.gen.verilog import emit_rtlil
from rowmesh.rtl.config import load_config
from rowmesh.rtl.pe.pe import Pe
from rowmesh.synth.boards import load_board
from rowmesh.synth.fpga import plain_names
from rowmesh.synth.fpga_flow import SOURCE, Flow
from rowmesh.synth.fpga_stat import Usage, total
from rowmesh.synth.fpga_timing import Timing
from rowmesh.synth.fpga_tools import NEXTPNR, YOSYS
from rowmesh.synth.process import Progress

__all__ = ["measure_pe"]

_TOP = "pe"


def measure_pe(
    config_name: str, folder: Path, seeds: tuple[int, ...], mhz: float, progress: Progress
) -> tuple[Usage, list[Timing]]:
    """Synthesize a PE and place it with every seed.

    Parameters
    ----------
    config_name : str
        Preset or TOML file.
    folder : Path
        For results and logs; what has not changed is not done again.
    seeds : tuple of int
        Of the placer.
    mhz : float
        Clock that the placer shall reach.
    progress : callable
        Is told what is done.
    """
    board = load_board("ulx3s_85f")
    flow = Flow(folder, _TOP, (YOSYS, NEXTPNR), progress=progress)
    text = emit_rtlil(Pe(load_config(config_name)), _TOP, platform=board)
    (folder / SOURCE).write_text(plain_names(text), encoding="utf-8")
    usages = flow.synthesize(mhz)
    options = [*board.options(), "--freq", f"{mhz:g}"]
    timings = [flow.place_and_route(seed, options, in_context=False) for seed in seeds]
    for timing in timings:
        progress(f"seed {timing.seed}: {timing.describe()}")
    return total(usages), timings


def main(
    config: Annotated[str, typer.Option(help="Preset or TOML file.")] = "fpga_85f",
    seeds: Annotated[int, typer.Option(min=1, help="Number of placements.")] = 3,
    freq: Annotated[float, typer.Option(help="Clock that shall be reached, MHz.")] = 100.0,
) -> None:
    """Measure one PE alone."""
    folder = Path("build/fpga").resolve() / f"pe-{Path(config).stem}"
    usage, timings = measure_pe(config, folder, tuple(range(1, seeds + 1)), freq, typer.echo)
    typer.echo(
        f"{usage.lut4} LUT4; {usage.luts} lookup tables with those of {usage.carry} CCU2C and "
        f"{usage.dpr} TRELLIS_DPR16X4; {usage.flip_flops} TRELLIS_FF; "
        f"{usage.multipliers} MULT18X18D"
    )
    fmax = ", ".join(f"{timing.fmax_mhz:.1f}" for timing in timings)
    typer.echo(f"Fmax: median {median(t.fmax_mhz for t in timings):.1f} MHz of {fmax}")


if __name__ == "__main__":
    typer.run(main)
