"""Build and run cocotb benches on both simulators."""

import dataclasses
import functools
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from amaranth.lib import wiring
from cocotb_tools import config as cocotb_config
from cocotb_tools import runner

from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config
from rowmesh.verif.builds import build_directory, digest, locked, tail
from rowmesh.verif.verilator import VERILATOR_WAIVERS, found_verilator, verilator_command
from rowmesh.verif.verilator_runtime import VerilatorRuntime

__all__ = ["Simulator", "bench_config", "run_bench"]

Simulator = Literal["verilator", "icarus"]


def _waves() -> bool:
    return os.environ.get("WAVES", "") not in ("", "0")


# -- cocotb benches -----------------------------------------------------------------------------


class _VerilatorRunner(runner.Verilator):
    """cocotb's runner with only the top's ports public: 5 to 10 times faster to build and run.

    Parameters
    ----------
    quick : bool
        Do not optimize the C++ code of the design.
    """

    def __init__(self, quick: bool) -> None:
        super().__init__()
        self._make_arguments = ["OPT_FAST=-O0"] if quick else []

    def _simulator_in_path_build_only(self) -> None:
        self.executable = verilator_command()

    def _set_env_common(self) -> None:
        super()._set_env_common()
        for name, value in found_verilator()[2]:
            self.env[name] = value
        # cocotb appended its library folder to the PATH that was replaced here.
        self.env["PATH"] += os.pathsep + str(cocotb_config.libs_dir)

    def _build_command(self) -> list[list[str]]:
        replaced = {"--public-flat-rw": ["--public-depth", "1"], "--trace": ["--trace-fst"]}
        verilate, make = (
            [new for old in command for new in replaced.get(old, [old])]
            for command in super()._build_command()
        )
        make += self._make_arguments
        if objects := self._runtime().objects():
            return [verilate, ["cp", *objects, str(self.build_dir)], make]
        return [verilate, make]

    def _runtime(self) -> VerilatorRuntime:
        return VerilatorRuntime(version("cocotb"), str(bool(self.waves)))

    def keep_runtime(self) -> None:
        """Keep the compiled run-time library for the next build."""
        self._runtime().keep(self.build_dir)

    def _waves_file(self) -> str | None:
        return "dump.fst"


def _make_runner(sim: Simulator, quick: bool = False) -> runner.Runner:
    if sim == "verilator":
        return _VerilatorRunner(quick)
    if sim == "icarus":
        if shutil.which("iverilog") is None:
            raise RuntimeError("no Icarus Verilog: install it (Debian: apt-get install iverilog)")
        return runner.Icarus()
    raise ValueError(f"simulator {sim!r}: must be 'verilator' or 'icarus'")


def bench_config() -> Config:
    """Inside a bench: the configuration that `run_bench` was given.

    Raises
    ------
    ValueError
        The bench runs without one.
    """
    text = os.environ.get("ROWMESH_CONFIG")
    if not text:
        raise ValueError("ROWMESH_CONFIG is not set: pass config= to run_bench")
    return Config.from_mapping(json.loads(text))


def run_bench(
    component: "wiring.Component[Any] | str",
    module: str,
    *,
    sim: Simulator,
    seed: int,
    config: Config | None = None,
    env: Mapping[str, str] | None = None,
    tests: Sequence[str] | None = None,
    name: str | None = None,
    quick_build: bool = False,
    waivers: Sequence[str] = (),
    platform: object = None,
) -> None:
    """Simulate a component under a cocotb module and fail when any of its tests fails.

    Builds land in ``build/sim/<name>-<hash of the Verilog>/<simulator>``, so equal Verilog is
    built once; each run has a folder below it with the log and, with ``WAVES=1``, an FST file.

    Parameters
    ----------
    component
        Device under test; or Verilog, such as that of a netlist.
    module : str
        Importable cocotb module, such as ``rowmesh.verif.bench_pe``.
    sim : str
        ``verilator`` or ``icarus``.
    seed : int
        Seeds Python's `random` in the bench (``cocotb.RANDOM_SEED`` reads it).
    config : Config, optional
        What `bench_config` returns in the bench.
    env : mapping, optional
        More environment variables for the bench.
    tests : sequence of str, optional
        Names of the cocotb tests to run; all by default.
    name : str, optional
        Name of the top module; by default the component's class in lower case.
    quick_build : bool
        For a large design that runs for few cycles: Verilator's code is compiled without
        optimization, in a third of the time.
    waivers : sequence of str
        More arguments of Verilator, to build with.
    platform : object, optional
        The component as on this FPGA: see `rowmesh.rtl.spad`.

    Raises
    ------
    AssertionError
        A cocotb test failed, or none ran. Names them and says how to rerun.
    RuntimeError
        The simulator is missing or the build failed.
    """
    __tracebackhide__ = True
    top = name or type(component).__name__.lower()
    verilog = component if isinstance(component, str) else _verilog(component, top, platform)
    build = _build_bench(verilog, top, sim, quick_build, tuple(waivers))
    extra = {"PYTHONHASHSEED": "0", **(env or {})}
    if config is not None:
        extra["ROWMESH_CONFIG"] = json.dumps(dataclasses.asdict(config))
    label = [module.rpartition(".")[2], f"seed{seed}"]
    label.append(digest(json.dumps(extra, sort_keys=True), *(tests or ()))[:8])
    run = build / "runs" / "-".join(label)
    with locked(run):
        _run_bench(build, run, top, module, sim, seed, extra, tests)


@functools.lru_cache(maxsize=1)
def _verilog(component: "wiring.Component[Any]", top: str, platform: object) -> str:
    """Verilog of a component that several benches in a row may run on."""
    return emit(component, top, platform)


def _build_bench(
    verilog: str, top: str, sim: Simulator, quick: bool, waivers: tuple[str, ...]
) -> Path:
    tool = found_verilator()[1] if sim == "verilator" else "icarus"
    if sim == "icarus":
        # Yosys starts every `always @*` by a change of this register from X to 0. Icarus sets it
        # before it listens, so what never changes would stay X: set it a moment later.
        verilog = re.sub(
            r"^  reg (\\\$auto\$verilog_backend\S+ ) = 0;$",
            r"  reg \1; initial #0 \1 = 0;",
            verilog,
            flags=re.MULTILINE,
        )
    waves = _waves()
    design = build_directory() / "sim" / f"{top}-{digest(verilog, version('cocotb'))}"
    kind = "-quick" if quick and sim == "verilator" else ""
    build = design / (f"{sim}{kind}-waves" if waves else f"{sim}{kind}")
    source = build / f"{top}.v"
    done = build / "built"
    with locked(build):
        if done.exists() and done.read_text(encoding="utf-8") == tool:
            return build
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        source.write_text(verilog, encoding="utf-8")
        arguments: list[str | runner.VHDL | runner.Verilog] = []
        if sim == "verilator":
            arguments += ["-O3", "--x-assign", "fast", "--x-initial", "fast", "--assert"]
            arguments += [*VERILATOR_WAIVERS, *waivers]
        log = build / "build.log"
        tool_runner = _make_runner(sim, quick)
        try:
            tool_runner.build(
                sources=[source],
                hdl_toplevel=top,
                build_dir=build,
                build_args=arguments,
                timescale=("1ns", "1ps"),
                waves=waves,
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            hint = ""
            if waves and "lz4.h" in tail(log):
                hint = "\nFST needs lz4 and zlib (Debian: apt-get install liblz4-dev zlib1g-dev)"
            raise RuntimeError(f"{sim} cannot build {top}: {error}{hint}\n{tail(log)}") from None
        if isinstance(tool_runner, _VerilatorRunner):
            tool_runner.keep_runtime()
        done.write_text(tool, encoding="utf-8")
    return build


def _run_bench(
    build: Path,
    run: Path,
    top: str,
    module: str,
    sim: Simulator,
    seed: int,
    env: Mapping[str, str],
    tests: Sequence[str] | None,
) -> None:
    __tracebackhide__ = True
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    results, log = run / "results.xml", run / "run.log"
    waves = _waves()
    arguments: list[str] = []
    if waves and sim == "icarus":
        arguments = [f"+dumpfile_path={run / 'dump.fst'}"]
    names = "|".join(re.escape(test) for test in tests or ())
    # A run that dies still leaves results or a log: judge by those, not by the exit status.
    failure = ""
    try:
        _make_runner(sim).test(
            test_module=module,
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            test_filter=rf"(^|\.)({names})(/.*)?$" if names else None,
            seed=seed,
            extra_env={"COCOTB_ANSI_OUTPUT": "0", **env},
            plusargs=arguments,
            waves=waves,
            build_dir=build,
            test_dir=run,
            results_xml=str(results),
            log_file=log,
        )
    except (RuntimeError, SystemExit) as error:
        failure = f"the simulator ended with {error}"
    ran, failed = _read_results(results)
    if ran and not failed and not failure:
        return
    if failed:
        what = f"failed: {', '.join(failed)}"
    elif failure:
        what = failure
    else:
        what = "no cocotb test ran" + (f" (asked for {', '.join(tests)})" if tests else "")
    raise AssertionError(
        f"{module} on {sim}, seed {seed}: {what}\n"
        f"reproduce: {_reproduce(sim, seed)}\n"
        f"log: {log}\n{tail(log)}"
    )


def _read_results(path: Path) -> tuple[int, list[str]]:
    """Number of tests that ran, and the names of those that failed."""
    if not path.exists():
        return 0, []
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        return 0, []
    ran, failed = 0, []
    for case in root.iter("testcase"):
        if case.find("skipped") is not None:
            continue
        ran += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", "?"))
    return ran, failed


def _reproduce(sim: Simulator, seed: int) -> str:
    node = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    tests = f""" TESTS="'{node}'\"""" if node else ""
    return f"make sim SIM={sim} SEED={os.environ.get('ROWMESH_SEED') or seed} WAVES=1{tests}"
