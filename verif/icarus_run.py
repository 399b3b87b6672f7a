"""Whole networks on Icarus: the compiled network goes into a cocotb simulation, results come out.

Slow: some hundred to a thousand cycles a second. `rowmesh.verif.fast` is the way to run much.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rowmesh.gen.compiled import Compiled
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.generate import TOP
from rowmesh.gen.graph import Array
from rowmesh.gen.runtime import Result
from rowmesh.rtl.top import Top
from rowmesh.verif.simulator import run_bench

__all__ = ["TASK_VARIABLE", "run_on_icarus"]

#: Environment variable with the folder of ``task`` and ``result``, both pickled.
TASK_VARIABLE = "ROWMESH_TASK"


def run_on_icarus(compiled: Compiled, inputs: Mapping[str, Array]) -> Result:
    """Run a network in `rowmesh.verif.bench_network`, layer by layer.

    Parameters
    ----------
    compiled : Compiled
    inputs : mapping of ndarray
        As `rowmesh.gen.runtime.Runtime.run` takes them.

    Raises
    ------
    RowmeshError
        What the run was ended by; where the log is when that was not the network's fault.
    """
    with TemporaryDirectory() as folder:
        task, result = Path(folder, "task"), Path(folder, "result")
        task.write_bytes(pickle.dumps((compiled, dict(inputs))))
        try:
            run_bench(
                Top(compiled.config),
                "rowmesh.verif.bench_network",
                sim="icarus",
                seed=1,
                config=compiled.config,
                env={TASK_VARIABLE: folder},
                name=TOP,
            )
        except AssertionError as error:
            told = str(error).splitlines()
            log = next((line for line in told if line.startswith("log: ")), "no log")
            raise RowmeshError(f"the simulation failed ({log}): {told[0]}") from None
        found = pickle.loads(result.read_bytes())
    if isinstance(found, RowmeshError):
        raise found
    assert isinstance(found, Result)
    return found
