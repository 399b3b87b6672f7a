"""Inside a simulation: run the network of `rowmesh.verif.icarus_run` and hand its results back."""

import os
import pickle
from pathlib import Path
from typing import Any

import cocotb

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.runtime import Result, Runtime
from rowmesh.verif.icarus_run import TASK_VARIABLE
from rowmesh.verif.top_harness import Board

__all__: list[str] = []

#: A run that takes so many times longer than predicted has come to a stop.
_PATIENCE = 20


@cocotb.test()
async def runs_a_network(dut: Any) -> None:
    """Leave the result, or the error that ended the run."""
    folder = Path(os.environ[TASK_VARIABLE])
    compiled, inputs = pickle.loads((folder / "task").read_bytes())
    predicted = sum(layer.predicted_cycles for layer in compiled.layers)
    patience = 100_000 + int(_PATIENCE * predicted)
    board = Board(dut, compiled.config, len(compiled.image), patience=patience)
    await board.start()

    def host() -> Result | RowmeshError:
        try:
            return Runtime(compiled, board).run(inputs, per_layer=True, counters=1)
        except RowmeshError as error:
            return RowmeshError(str(error))

    found = await board.drive(host)
    (folder / "result").write_bytes(pickle.dumps(found))
