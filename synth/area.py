"""Area of an accelerator in NAND2 equivalents and memory bits, by component.

Every distinct module is synthesized once, without flattening, and counts as often as it occurs.
A memory of 256 bits and more with at most two write ports counts as bits: SRAM when all its read
ports are clocked, else SPad. Any other memory becomes flip-flops.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmesh.gen.verilog import emit_rtlil, instance_counts
from rowmesh.rtl.config import PRESETS, Config
from rowmesh.synth.area_report import AreaReport, Component, print_report
from rowmesh.synth.liberty import OWN_LIBERTY, Liberty, read_liberty
from rowmesh.synth.yosys import Progress, quiet, run

__all__ = ["AreaReport", "Component", "measure", "print_report", "report"]

#: Memories below this many bits, or with more write ports than this, become flip-flops.
MEMORY_BITS, MEMORY_WRITES = 256, 2

#: To one kind of cell a flip-flop; cells of the library with a reset only where it has such.
_MAP_ENABLE_RESET = r"""
module \$_SDFFE_PP0P_ (input D, C, R, E, output Q);
  wire n, d, e;
  \$_NOT_ not_r (.A(R), .Y(n));
  \$_AND_ and_d (.A(D), .B(n), .Y(d));
  \$_OR_ or_e (.A(E), .B(R), .Y(e));
  \$_DFFE_PP_ _TECHMAP_REPLACE_ (.D(d), .C(C), .E(e), .Q(Q));
endmodule
"""
_MAP_RESET = r"""
module \$_SDFF_PP0_ (input D, C, R, output Q);
  wire n, d;
  \$_NOT_ not_r (.A(R), .Y(n));
  \$_AND_ and_d (.A(D), .B(n), .Y(d));
  \$_DFF_P_ _TECHMAP_REPLACE_ (.D(d), .C(C), .Q(Q));
endmodule
"""
_MAP_RESET_OWN = r"""
module \$_SDFF_PP0_ (input D, C, R, output Q);
  DFFR _TECHMAP_REPLACE_ (.D(D), .C(C), .R(R), .Q(Q));
endmodule
"""

#: Until word-level logic and memories. The smallest multipliers are for signed factors only.
_COARSE = """
read_rtlil design.il
hierarchy -check -top {top}
proc
chformal -remove
delete t:$print
opt_expr
opt_clean
opt -nodffe -nosdff
wreduce
peepopt
opt_clean
booth -lowpower t:$mul r:A_SIGNED=1 %i
booth
alumacc
opt
memory -nomap -nordff
opt_clean
write_rtlil coarse.il
"""
#: From there to cells. The mapper minimizes area; delays play no part.
_FINE = """
read_rtlil coarse.il
{small_memories}
opt -fast -full
techmap
opt -fast
dfflegalize -cell $_DFF_P_ 01 -cell $_DFFE_PP_ 01 -cell $_SDFF_PP0_ 01 -cell $_SDFFE_PP0P_ 01
techmap -map flip_flops.v
opt_merge
dfflibmap -liberty cells.lib
abc -liberty cells.lib -script +strash;ifraig;scorr;dc2;dc2;dc2;dch,-f;amap,-m
opt_clean
tee -o stat.json stat -liberty cells.lib -json
"""
_EXTRACTS = re.compile(r"Extracting gate netlist of module `\\?(\S+)'")


def measure(
    component: Any,
    name: str,
    folder: Path,
    *,
    liberty: Path = OWN_LIBERTY,
    progress: Progress = quiet,
) -> tuple[Component, ...]:
    """Synthesize a component and all that it consists of.

    Parameters
    ----------
    component
        An Amaranth component.
    name : str
        Name of its module.
    folder : Path
        For intermediate files and logs.
    liberty : Path
        Cell library.
    progress : callable
        Is told what goes on, line by line.

    Returns
    -------
    tuple of Component
        The largest total first.

    Raises
    ------
    ValueError
        The Liberty file is not usable.
    RuntimeError
        Yosys failed, or a cell could not be mapped (a latch, for example).
    """
    library = read_liberty(liberty)
    folder.mkdir(parents=True, exist_ok=True)
    progress("generating RTLIL")
    text = emit_rtlil(component, name)
    counts = instance_counts(text, name)
    (folder / "design.il").write_text(text, encoding="utf-8")
    (folder / "flip_flops.v").write_text(_flip_flop_map(library), encoding="utf-8")
    shutil.copyfile(liberty, folder / "cells.lib")

    progress(f"{len(counts)} distinct modules of {sum(counts.values())}: word level")
    run(_COARSE.format(top=name), folder, name="coarse", watch=quiet, progress=progress)
    memories = _read_memories((folder / "coarse.il").read_text(encoding="utf-8"))

    mapped = 0

    def watch(line: str) -> None:
        nonlocal mapped
        if match := _EXTRACTS.search(line):
            mapped += 1
            progress(f"gates of {match[1]} ({mapped} of {len(counts)})")

    script = _FINE.format(small_memories=_map_small(memories))
    run(script, folder, name="fine", watch=watch, progress=progress)
    stat = json.loads((folder / "stat.json").read_text(encoding="utf-8"))
    cells = {key.removeprefix("\\"): m["num_cells_by_type"] for key, m in stat["modules"].items()}
    return _components(counts, cells, memories, library)


def report(
    config: Config, liberty: Path | None = None, progress: Progress | None = None
) -> AreaReport:
    """Synthesize a whole accelerator, print the table and write ``build/area/<name>.json``.

    Parameters
    ----------
    config : Config
        The accelerator.
    liberty : Path, optional
        Cell library; by default the project's own.
    progress : callable, optional
        Is told what goes on; by default it is written to the standard error.

    Returns
    -------
    AreaReport
        What was printed.
    """
    from rowmesh.rtl.top import Top

    start = time.monotonic()
    show = progress or (lambda message: print(f"area: {message}", file=sys.stderr, flush=True))
    name = _config_name(config)
    build = Path(os.environ.get("ROWMESH_BUILD") or "build").resolve() / "area"
    library = liberty or OWN_LIBERTY
    components = measure(Top(config), "rowmesh", build / name, liberty=library, progress=show)
    result = AreaReport(
        name=name,
        liberty=library.name,
        components=components,
        seconds=round(time.monotonic() - start, 1),
    )
    path = build / f"{name}.json"
    path.write_text(result.to_json() + "\n", encoding="utf-8")
    print_report(result)
    show(f"{path}, {result.seconds:.0f} s")
    return result


# -- parts --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Memory:
    module: str
    width: int
    size: int
    writes: int
    clocked: bool

    @property
    def bits(self) -> int:
        return self.width * self.size

    @property
    def counts_as_bits(self) -> bool:
        return self.bits >= MEMORY_BITS and self.writes <= MEMORY_WRITES


def _config_name(config: Config) -> str:
    for name, preset in PRESETS.items():
        if preset() == config:
            return name
    return f"{config.hash:08x}"


def _flip_flop_map(library: Liberty) -> str:
    own = library.path.resolve() == OWN_LIBERTY.resolve()
    return _MAP_ENABLE_RESET + (_MAP_RESET_OWN if own else _MAP_RESET)


def _read_memories(text: str) -> list[_Memory]:
    """Memory cells of a design in RTLIL."""
    memories = []
    module = ""
    for block in re.split(r"^(?=module )|^(?=  cell )", text, flags=re.M):
        if match := re.match(r"module \\?(\S+)", block):
            module = match[1]
        elif block.startswith("  cell $mem_v2"):
            values = dict(re.findall(r"^    parameter \\(\w+) (\S+)", block, flags=re.M))
            memories.append(
                _Memory(
                    module=module,
                    width=_number(values["WIDTH"]),
                    size=_number(values["SIZE"]),
                    writes=_number(values["WR_PORTS"]),
                    clocked="0" not in values["RD_CLK_ENABLE"].partition("'")[2],
                )
            )
    return memories


def _number(text: str) -> int:
    return int(text.partition("'")[2], 2) if "'" in text else int(text)


def _map_small(memories: list[_Memory]) -> str:
    """Commands that turn the memories which are not counted as bits into flip-flops."""
    kinds = {(m.width, m.size, m.writes) for m in memories if not m.counts_as_bits}
    return "\n".join(
        f"memory_map t:$mem_v2 r:WIDTH={width} %i r:SIZE={size} %i r:WR_PORTS={writes} %i"
        for width, size, writes in sorted(kinds)
    )


def _components(
    counts: Mapping[str, int],
    cells: Mapping[str, Mapping[str, int]],
    memories: list[_Memory],
    library: Liberty,
) -> tuple[Component, ...]:
    own: dict[str, float] = {}
    full: dict[str, float] = {}
    flip_flops: dict[str, int] = {}

    def visit(module: str) -> float:
        if module in full:
            return full[module]
        own[module] = full[module] = 0.0
        flip_flops[module] = 0
        for raw, number in cells[module].items():
            kind = raw.removeprefix("\\")
            if kind in cells:
                full[module] += number * visit(kind)
            elif kind in library.areas:
                own[module] += number * library.areas[kind] / library.nand2
                flip_flops[module] += number * (kind in library.flip_flops)
            elif kind not in ("$mem_v2", "$scopeinfo"):
                raise RuntimeError(f"module {module}: {number} cells {kind} were not mapped")
        full[module] += own[module]
        return full[module]

    bits = {key: dict.fromkeys(counts, 0) for key in (False, True)}
    for memory in memories:
        if memory.counts_as_bits:
            bits[memory.clocked][memory.module] += memory.bits
    components = []
    for module, instances in counts.items():
        visit(module)
        components.append(
            Component(
                name=module,
                part_of=tuple(user for user in counts if _uses(cells[user], module)),
                instances=instances,
                nand2=round(own[module], 2),
                nand2_with_parts=round(full[module], 2),
                flip_flops=flip_flops[module],
                spad_bits=bits[False][module],
                sram_bits=bits[True][module],
            )
        )
    return tuple(sorted(components, key=lambda c: (-c.instances * c.nand2, c.name)))


def _uses(cells: Mapping[str, int], module: str) -> bool:
    return module in cells or f"\\{module}" in cells
