"""`make sim-shell`: the demo network on a simulated board, over a serial port of the system.

The board is the shell with block RAM in Verilator; ``rowmesh run --backend board`` talks to it
through a pseudo terminal, as it would to a board. Every tensor that it reads must be that of the
golden model.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from rowmesh.gen import datasets
from rowmesh.gen.api import compile as compile_network
from rowmesh.gen.api import run as run_network
from rowmesh.rtl.config import load_config
from rowmesh.rtl.shell.shell import Shell
from rowmesh.verif.fast.shell import ShellMachine
from rowmesh.verif.serial_port import serial_port

__all__ = ["main", "run_demo"]

#: Of the simulated board: as many cycles a bit as the receiver needs at least, so that time goes
#: into the network and not into the line.
CLOCK_HZ, BAUD = 48_000_000, 12_000_000
_PAGE = 4096
#: The command, of the Python and the checkout that this runs in.
_ROWMESH = "from rowmesh.gen.cli import main; main()"


def run_demo(preset: str, images: int, seed: int = 1) -> None:
    """Run the demo network and compare; says what it does and how long it took.

    Parameters
    ----------
    preset : str
        The machine.
    images, seed : int
        Digits, and what draws them.

    Raises
    ------
    AssertionError
        A tensor differs, or a frame of the board had no stop bit.
    RuntimeError
        ``rowmesh run`` failed; carries what it said.
    """
    config = load_config(preset)
    model = datasets.mnist_conv_path()
    calibration = datasets.synthetic_digits(50, seed)
    inputs = datasets.synthetic_digits(images, seed + 1)
    needed = len(compile_network(model, config, calibration=calibration).compiled.image)
    memory = -(-needed // _PAGE) * _PAGE
    expected = run_network(model, inputs, config, calibration=calibration, all_layers=True)
    print(f"building the shell: {preset}, {memory} bytes of memory", flush=True)
    shell = Shell(config, clock_hz=CLOCK_HZ, baud=BAUD, memory_bytes=memory)
    began = time.monotonic()
    machine = ShellMachine(shell)
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    with TemporaryDirectory() as folder, serial_port(machine) as port:
        files = {name: Path(folder, name) for name in ("x.npy", "cal.npy", "y.npz")}
        np.save(files["x.npy"], inputs)
        np.save(files["cal.npy"], calibration)
        command = [sys.executable, "-c", _ROWMESH, "run", str(model)]
        command += ["--input", str(files["x.npy"]), "--calibration", str(files["cal.npy"])]
        command += ["-o", str(files["y.npz"]), "--all-layers", "--config", preset]
        command += ["--backend", "board", "--port", port, "--baud", str(BAUD)]
        began = time.monotonic()
        status = subprocess.run(command, check=False).returncode
        if status:
            raise RuntimeError(f"rowmesh run ended with status {status}")
        with np.load(files["y.npz"]) as found:
            names = found.files
            for name in names:
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    seconds, cycles = time.monotonic() - began, machine.cycles
    assert machine.bad_stops == 0, f"{machine.bad_stops} frames of the board have no stop bit"
    machine.close()
    print(f"{images} images, {len(names)} tensors ({', '.join(names)}) equal the golden model")
    print(f"{cycles} cycles in {seconds:.0f} s, {cycles / seconds / 1000:.0f} thousand a second")


def main(
    config: Annotated[str, typer.Option(help="Preset.")] = "tiny",
    images: Annotated[int, typer.Option("-n", help="Digits.")] = 2,
) -> None:
    """Run the demo network on a simulated board."""
    run_demo(config, images)


if __name__ == "__main__":
    typer.run(main)
