"""What the commands `rowmesh compile` and `rowmesh run` do, from files to files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rowmesh.gen.api import CompiledNetwork, Progress, run_graph
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.files import check_folder, write_in_one_step
from rowmesh.gen.graph import Array
from rowmesh.gen.network import Network, import_model, quantized_network
from rowmesh.gen.run_record import save_record
from rowmesh.rtl.config import Config
from rowmesh.rtl.shell.baud import DEFAULT_BAUD

__all__ = ["Network", "compile_model", "load_graph", "read_arrays", "run_model", "write_arrays"]


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Arrays of a ``.npy`` file (for a single name) or of a ``.npz`` file by name.

    Raises
    ------
    RowmeshError
        The file cannot be read, or is for several inputs and has no names.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise RowmeshError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise RowmeshError(f"{path}: not a .npy or .npz file, or damaged") from None
    if isinstance(found, np.ndarray):
        if len(names) != 1:
            raise RowmeshError(f"{path}: the inputs {', '.join(names)} need a .npz file by name")
        return {names[0]: found}
    try:
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise RowmeshError(f"{path}: not a .npy or .npz file, or damaged") from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a ``.npz`` file in one step: it is complete or not there."""

    def write(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for name, array in arrays.items():
                # A fixed date: the same results give the same bytes.
                with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array))

    write_in_one_step(path, write)


def load_graph(path: Path, calibration: Path | None = None) -> Network:
    """Read a network and quantize it where it is float.

    Parameters
    ----------
    path : Path
        TFLite or ONNX file; which one, the content says.
    calibration : Path, optional
        Inputs (.npy, or .npz by name) for a float network.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the files.
    """
    graph = import_model(path)
    if graph.quantized or calibration is None:
        return quantized_network(graph, str(path), None, "--calibration X.npy")
    samples = read_arrays(calibration, graph.inputs)
    return quantized_network(graph, str(path), samples, str(calibration))


def compile_model(
    model: Path,
    config: Config,
    out: Path,
    *,
    calibration: Path | None = None,
    strict: bool = False,
    progress: Progress = lambda line: None,
) -> None:
    """Compile a network file to a program file and its manifest (``.json`` beside it).

    Parameters
    ----------
    model, out : Path
        Network, and where the program goes; nothing is written unless all succeeded.
    config : Config
        The machine.
    calibration : Path, optional
        Inputs to quantize a float network with.
    strict : bool
        Refuse a layer whose psums are not proved to fit.
    progress : callable
        Gets a line for every layer, and the warnings.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network or the files.
    """
    check_folder(out)
    network = load_graph(model, calibration)
    made = CompiledNetwork.of(network, config, strict=strict, progress=progress)
    made.save(out)
    progress(f"{out}: {len(made.compiled.image)} bytes")


def run_model(
    model: Path,
    config: Config,
    inputs: Path,
    out: Path,
    *,
    backend: str = "golden",
    sim: str = "verilator",
    port: str | None = None,
    baud: int = DEFAULT_BAUD,
    all_layers: bool = False,
    calibration: Path | None = None,
    progress: Progress = lambda line: None,
) -> None:
    """Run a network file on input arrays.

    Inputs and outputs are in the model's own layout and type, outputs under the model's names.

    Parameters
    ----------
    model, inputs, out : Path
        Network; ``.npy`` or ``.npz`` with images along the first axis; ``.npz`` for the outputs,
        which is written only when all succeeded, on `rtl` and `board` with a record of the run
        beside it (``.run.json``).
    config : Config
        The machine (and the rounding of the golden model).
    backend : str
        ``golden``, ``cycle`` (the program-level model, with predicted cycles), ``rtl``, ``board``.
    sim : str
        Simulator of ``rtl``.
    port, baud : str, int
        Serial port of ``board``, and its bits a second.
    all_layers : bool
        Write every tensor that there is. On the accelerator a convolution with a fused pooling
        has none of its own.
    calibration : Path, optional
        Inputs to quantize a float network with.
    progress : callable
        Gets lines.

    Raises
    ------
    RowmeshError
        Whatever is wrong with the network, the files or the run.
    """
    record = out.with_suffix(".run.json")
    for path in (out, record):
        check_folder(path)
    network = load_graph(model, calibration)
    values = network.take(read_arrays(inputs, network.graph.inputs))
    where = config, values, backend, progress, sim, model.name
    made = run_graph(network.graph, *where, port=port, baud=baud)
    write_arrays(out, network.give(made.values, all_layers))
    if made.record is not None:
        save_record(made.record, record)
        progress(f"{record}: for `rowmesh report`")
    progress(f"{out}: {len(next(iter(values.values())))} images, backend {backend}")
