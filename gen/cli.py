"""The command ``rowmesh``: thin, each command imports what it runs.

Every bad input ends in one readable line on the standard error and exit status 1; ``--debug``
before the command shows the traceback instead.
"""

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from rowmesh.gen.cli_fpga import add_fpga
from rowmesh.gen.cli_prune import add_prune
from rowmesh.rtl.config import PRESETS, load_config
from rowmesh.rtl.shell.baud import DEFAULT_BAUD

__all__ = ["app", "main"]

app = typer.Typer(
    name="rowmesh",
    help="Generate sparse DNN accelerators, compile networks for them, and run them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Backend(enum.StrEnum):
    """What runs a network."""

    GOLDEN = "golden"
    CYCLE = "cycle"
    RTL = "rtl"
    BOARD = "board"


class SimulatorName(enum.StrEnum):
    """What simulates the RTL."""

    VERILATOR = "verilator"
    ICARUS = "icarus"


ConfigOption = Annotated[
    str, typer.Option("--config", metavar="C", help="Preset or TOML file: see `rowmesh config`.")
]
ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Network: a TFLite or ONNX file.")
]


_RUN_HELP = """Run a network on inputs: golden model, cycle model, the RTL, or a board.

Inputs are in the model's own type and layout, images (of a streaming model:
steps) along the first axis; y.npz holds the outputs by the model's names.
On RTL and board, y.run.json says where the cycles went: see `rowmesh report`.
Your own int8 .tflite in three lines:

\b
  python -c "import numpy as n; n.save('x', n.zeros((1,96,96,3), n.int8))"
  rowmesh compile model.tflite -o model.prog
  rowmesh run model.tflite --input x.npy -o y.npz --backend rtl
"""


class _Settings:
    """Options that come before the command."""

    debug = False


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take the options that come before the command."""
    _Settings.debug = debug


@app.command()
def config(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE.toml]", help="Preset or TOML file.")
    ] = None,
) -> None:
    """Show a configuration with its derived sizes, or list the presets."""
    if name is None:
        for preset in PRESETS:
            found = load_config(preset)
            typer.echo(
                f"{preset:12} {found.cluster_rows}x{found.cluster_cols} clusters of "
                f"{found.pe_rows}x{found.pe_cols} PEs, {found.pes} PEs, {found.macs} MACs"
            )
        return
    found = load_config(name)
    typer.echo(found.to_toml(), nl=False)
    typer.echo(
        f"# {found.clusters} clusters, {found.pes} PEs, {found.macs} MACs, "
        f"{found.axi_masters} AXI masters, hash 0x{found.hash:08x}"
    )


@app.command()
def generate(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Output folder.")],
    config: ConfigOption = "demo",
) -> None:
    """Write Verilog, register map, C header and configuration; nothing unless all succeed."""
    checked = load_config(config)
    from rowmesh.gen.generate import generate as make_files
    from rowmesh.gen.generate import write_files

    files = make_files(checked)
    write_files(files, out)
    for name, text in files.items():
        typer.echo(f"{out / name}  {len(text.encode()) / 1e6:.3f} MB")


@app.command()
def compile(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--output", metavar="PROG", help="Program file.")],
    config: ConfigOption = "demo",
    calibration: Annotated[
        Path | None, typer.Option(help="Inputs (.npy, .npz) to quantize a float network with.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse layers whose psums are not proved to fit.")
    ] = False,
) -> None:
    """Compile a network (int8 or float TFLite or ONNX) to a program of the accelerator."""
    checked = load_config(config)
    from rowmesh.gen.flow import compile_model

    compile_model(model, checked, out, calibration=calibration, strict=strict, progress=_progress)


@app.command(help=_RUN_HELP)
def run(
    model: ModelArgument,
    input: Annotated[Path, typer.Option("--input", metavar="X.npy", help="Inputs; .npz by name.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="Y.npz", help="Outputs.")],
    config: ConfigOption = "demo",
    backend: Annotated[Backend, typer.Option(help="What runs it.")] = Backend.GOLDEN,
    sim: Annotated[
        SimulatorName, typer.Option(help="Simulator of the backend rtl.")
    ] = SimulatorName.VERILATOR,
    port: Annotated[
        str | None, typer.Option(metavar="P", help="Serial port of the backend board.")
    ] = None,
    baud: Annotated[int, typer.Option(min=1, help="Bits a second on the port.")] = DEFAULT_BAUD,
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="Write every layer's output too.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Inputs (.npy, .npz) to quantize a float network with.")
    ] = None,
) -> None:
    """Run a network on inputs: golden model, cycle model, the RTL, or a board."""
    checked = load_config(config)
    from rowmesh.gen.flow import run_model

    run_model(
        model,
        checked,
        input,
        out,
        backend=backend.value,
        sim=sim.value,
        port=port,
        baud=baud,
        all_layers=all_layers,
        calibration=calibration,
        progress=_progress,
    )


@app.command()
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Record that `run --backend rtl` wrote.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="HTML", help="Page to write.")],
) -> None:
    """Show where the cycles of a run went: one HTML page, layer by layer and PE by PE."""
    from rowmesh.gen.report import make_report

    make_report(run, out)
    typer.echo(str(out))


@app.command()
def area(config: ConfigOption = "demo") -> None:
    """Synthesize and print the area by component."""
    checked = load_config(config)
    from rowmesh.synth.area import report as report_area

    report_area(checked)


add_fpga(app)
add_prune(app)


def _progress(message: str) -> None:
    typer.echo(message, err=True)


def main() -> None:
    """Run the command line; the entry point of the console script."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if _Settings.debug:
            raise
        # A tool's own output (RuntimeError) stays as it is; everything else is one line.
        text = str(error)
        message = text if isinstance(error, RuntimeError) else " ".join(text.split())
        typer.echo(f"rowmesh: error: {message}", err=True)
        sys.exit(1)
