"""Shared libraries of Verilated designs with a C++ harness."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rowmesh.verif.builds import digest, locked, tail
from rowmesh.verif.verilator import (
    VERILATOR_WAIVERS,
    found_verilator,
    verilator_command,
    verilator_environment,
    verilator_root,
)
from rowmesh.verif.verilator_runtime import VerilatorRuntime

__all__ = ["build_verilator_library"]


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
    settings = [top, *sorted(hier_blocks), optimize, str(trace), found_verilator()[1]]
    contents = [f"{path.name}\0{path.read_text(encoding='utf-8')}" for path in sources]
    build = out_dir.resolve() / f"{top}-{digest(*settings, *contents)}"
    library = build / f"lib{top}.so"
    with locked(build):
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
    jobs = ["-j", str(os.cpu_count() or 1)]
    verilate = [verilator_command(), "--cc", *jobs, "--Mdir", str(objects)]
    verilate += ["--prefix", f"V{top}", "--top-module", top]
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
    runtime = VerilatorRuntime("library", optimize, str(trace))
    # With blocks the top's makefile is written later, so make compiles them once more.
    for path in runtime.objects():
        shutil.copy(path, objects)
    makefile = f"V{top}_hier.mk" if hier_blocks else f"V{top}.mk"
    _call(["make", *jobs, "-C", str(objects), "-f", makefile], environment, log)
    runtime.keep(objects)

    root = verilator_root()
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
        raise RuntimeError(f"{Path(command[0]).name} ended with status {status}\n{tail(log)}")
