"""The Python interface: a network file on the golden model and on a machine behind its registers.

``python examples/python_api.py [MODEL [INPUTS.npy]] [--config C]``; without a model it takes the
demo's network (float ONNX, package ``qonnx``), calibrated with synthetic digits.
"""

import argparse
from pathlib import Path

import numpy as np

import rowmesh
from rowmesh.gen.datasets import mnist_conv_path, synthetic_digits
from rowmesh.sim_models.model_machine import ModelMachine


def main(arguments: list[str] | None = None) -> int:
    """Run the example; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="TFLite or ONNX file")
    parser.add_argument("inputs", nargs="?", type=Path, help="its inputs, images first")
    parser.add_argument("--config", default="demo", help="preset or TOML file")
    options = parser.parse_args(arguments)
    if options.model is None:
        model, calibration = mnist_conv_path(), synthetic_digits(50, seed=1)
        inputs = synthetic_digits(2, seed=2)
    elif options.inputs is None:
        parser.error("a model needs INPUTS.npy")
    else:
        model, inputs = options.model, np.load(options.inputs)
        calibration = inputs  # read only where the network is float

    # The numpy model, which every implementation is compared with.
    expected = rowmesh.run(model, inputs, options.config, calibration=calibration)

    # The program, and a table of what runs where.
    network = rowmesh.compile(model, options.config, calibration=calibration, progress=print)

    # Any object with registers, memory and an interrupt is a board: here the program-level model.
    config = network.compiled.config
    board = ModelMachine(config, len(network.compiled.image))
    found = network.run(inputs, board)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        print(f"{name}: {array.dtype} {array.shape}, equal on the machine")

    # The driver underneath uses nothing else; on a board it also counts cycles and beats.
    print(f"the controller is {rowmesh.Accelerator(board, config).state.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
