"""The command ``rowmesh fpga``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rowmesh.gen.errors import RowmeshError
from rowmesh.rtl.config import Config, load_config

if TYPE_CHECKING:
    from rowmesh.synth.fpga import FpgaJob
    from rowmesh.synth.fpga_report import NetworkTime

__all__ = ["add_fpga"]

_HELP = """Build the bitstream of a configuration for an ECP5 board, and its report.

Steps whose inputs have not changed are not done again. Ends with status 1 when
the FPGA has not the room (before placing), or when no seed meets --freq.

\b
  rowmesh fpga --config tiny --board ulx3s_25f --freq 24
  rowmesh fpga --config fpga_85f --board ulx3s_85f --freq 60 --seeds 3
"""


def add_fpga(app: typer.Typer) -> None:
    """Add the command to the command line."""

    @app.command(help=_HELP)
    def fpga(
        board: Annotated[str, typer.Option("--board", metavar="B", help="Such as ulx3s_85f.")],
        config: Annotated[
            str, typer.Option("--config", metavar="C", help="Preset or TOML file.")
        ] = "tiny",
        freq: Annotated[
            float, typer.Option("--freq", metavar="MHZ", help="Clock that must be met.")
        ] = 50.0,
        seed: Annotated[int, typer.Option("--seed", help="First seed of the placer.")] = 1,
        seeds: Annotated[
            int, typer.Option("--seeds", min=1, help="Number of seeds; the fastest is taken.")
        ] = 1,
        memory: Annotated[
            int | None, typer.Option(metavar="KIB", help="Block RAM that is the memory.")
        ] = None,
        model: Annotated[
            list[Path] | None,
            typer.Option("--model", metavar="MODEL", help="Network whose time the report says."),
        ] = None,
        calibration: Annotated[
            Path | None, typer.Option(help="Inputs (.npy, .npz) to quantize float networks with.")
        ] = None,
        synth_only: Annotated[
            bool, typer.Option("--synth-only", help="Stop before placing.")
        ] = False,
        out: Annotated[
            Path | None, typer.Option("-o", "--output", metavar="DIR", help="Output folder.")
        ] = None,
    ) -> None:
        """Build the bitstream of a configuration for an ECP5 board, and its report."""
        checked = load_config(config)
        from rowmesh.synth.fpga import FpgaJob

        name = Path(config).stem
        job = FpgaJob.of(
            checked,
            name,
            board,
            (out or Path("build") / "fpga" / f"{name}-{board}").resolve(),
            mhz=freq,
            seeds=range(seed, seed + seeds),
            memory_kib=memory,
        )
        # First, so that what is wrong with a network shows before the long steps.
        times = tuple(_time(path, calibration, checked) for path in model or [])
        _build(job, synth_only, times)


def _build(job: "FpgaJob", synth_only: bool, networks: tuple["NetworkTime", ...]) -> None:
    """Build, with a line for every step and, on a terminal, what goes on within it."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from rowmesh.synth.fpga import build

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("fpga")
        report = build(
            job,
            synth_only=synth_only,
            networks=networks,
            progress=lambda line: console.print(f"fpga: {line}", markup=False),
            status=lambda line: progress.update(task, description=line.replace("[", "\\[")),
        )
    sys.stdout.write(report.summary())


def _time(path: Path, calibration: Path | None, config: Config) -> "NetworkTime":
    """Compile a network: what it takes, and how long."""
    from rowmesh.gen.compiler import compile_graph
    from rowmesh.gen.flow import load_graph
    from rowmesh.synth.fpga_report import NetworkTime

    graph = load_graph(path, calibration).graph
    try:
        compiled = compile_graph(graph, config, lambda line: None)
    except RowmeshError as error:
        raise RowmeshError(f"{path}: {error}") from None
    layers = compiled.layers
    return NetworkTime(
        name=path.name,
        cycles=sum(layer.predicted_cycles for layer in layers),
        effectual_macs=sum(
            layer.utilization * layer.predicted_cycles * config.macs for layer in layers
        ),
        memory_bytes=len(compiled.image),
    )
