"""What a synthesized design takes of an ECP5, module by module, and whether it has the room."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rowmesh.gen.errors import RowmeshError
from rowmesh.synth.boards import Board

__all__ = ["Usage", "check_room", "read_stat", "synth_script", "total"]

#: Modules that stay apart until all are mapped: the rest of the hierarchy dissolves into them.
#: The mapper takes each once, however often it occurs, and does not look beyond it.
BLOCKS = {
    "activity_counters",
    "array",
    "axi_merge",
    "axi_read_master",
    "axi_write_master",
    "block_ram",
    "bridge",
    "burst_planner",
    "cluster",
    "cluster_group",
    "config_node",
    "controller",
    "csc_encoder",
    "csr",
    "dma_cluster",
    "iact_bank",
    "iact_loader",
    "iact_reader",
    "iact_router",
    "memory_port",
    "out_writer",
    "param_loader",
    "pe",
    "pe_cluster",
    "post",
    "psum_bank",
    "psum_router",
    "read_buffer",
    "rlc_decoder",
    "shell",
    "top",
    "weight_router",
    "write_channel",
}

#: Share of a clock period that the mapper may spend between registers, as far as it sees: it knows
#: little of the wires. What is faster than that gives way to what is smaller.
_LOGIC_SHARE = 0.15

#: Adders and comparators of so many bits take fewer lookup tables without a carry chain, which has
#: ends of its own.
_ADDER = 5

#: FIFOs of whole bursts and parameters are too small for block RAM in the eyes of Yosys.
_SYNTH = """\
read_rtlil {source}
{keep}
synth_ecp5 -top {top} -run begin:map_ram
setattr -set ram_style "block" */*beats.storage */*params.lane_*
synth_ecp5 -top {top} -run map_ram:map_gates
techmap t:$alu r:Y_WIDTH<={adder} %i
scratchpad -set abc9.D {delay}
synth_ecp5 -top {top} -run map_gates:
check -assert
tee -o {stat} stat -json
setattr -mod -unset keep_hierarchy *
flatten
opt_clean
write_json {netlist}
"""


def synth_script(
    source: str, top: str, modules: Iterable[str], stat: str, netlist: str, *, mhz: float
) -> str:
    """Commands for Yosys: from RTLIL to a flat netlist, with what every block takes.

    Parameters
    ----------
    source : str
        RTLIL file.
    top : str
        Top module.
    modules : iterable of str
        Names of all modules; a number at the end tells modules of one component apart.
    stat, netlist : str
        JSON files to write.
    mhz : float
        Clock to be reached.
    """
    apart = [name for name in modules if re.sub(r"_\d+$", "", name) in BLOCKS]
    keep = "\n".join(f"setattr -mod -set keep_hierarchy 1 {name}" for name in apart)
    return _SYNTH.format(
        source=source,
        top=top,
        keep=keep,
        stat=stat,
        netlist=netlist,
        delay=round(_LOGIC_SHARE * 1e6 / mhz),
        adder=_ADDER,
    )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a module takes, without the modules in it.

    Parameters
    ----------
    name : str
        Of the module.
    instances : int
        In the whole design.
    lut4 : int
        Lookup tables of logic alone.
    carry : int
        CCU2C: two lookup tables each, with a carry chain.
    dpr : int
        TRELLIS_DPR16X4: 16 x 4 bits of distributed RAM, four lookup tables each.
    flip_flops, block_rams, multipliers : int
        TRELLIS_FF, DP16KD, MULT18X18D.
    """

    name: str
    instances: int
    lut4: int
    carry: int
    dpr: int
    flip_flops: int
    block_rams: int
    multipliers: int

    @property
    def luts(self) -> int:
        """All lookup tables: of logic, carry chains and distributed RAM."""
        return self.lut4 + 2 * self.carry + 4 * self.dpr


_CELLS = {
    "lut4": "LUT4",
    "carry": "CCU2C",
    "dpr": "TRELLIS_DPR16X4",
    "flip_flops": "TRELLIS_FF",
    "block_rams": "DP16KD",
    "multipliers": "MULT18X18D",
}


def read_stat(path: Path, top: str) -> tuple[Usage, ...]:
    """What `synth_script` wrote: every block, the largest total of lookup tables first."""
    modules = json.loads(path.read_text(encoding="utf-8"))["modules"]
    cells: dict[str, Mapping[str, Any]] = {
        name.removeprefix("\\"): module["num_cells_by_type"] for name, module in modules.items()
    }
    counts = dict.fromkeys(cells, 0)

    def visit(name: str, instances: int) -> None:
        counts[name] += instances
        for kind, number in cells[name].items():
            if kind.removeprefix("\\") in cells:
                visit(kind.removeprefix("\\"), instances * number)

    visit(top, 1)
    usages = (
        Usage(
            name=name,
            instances=counts[name],
            **{key: int(found.get(kind, 0)) for key, kind in _CELLS.items()},
        )
        for name, found in cells.items()
        if counts[name] and any(kind in found for kind in _CELLS.values())
    )
    return tuple(sorted(usages, key=lambda u: (-u.instances * u.luts, u.name)))


def total(usages: Iterable[Usage]) -> Usage:
    """The whole design as one."""
    usages = tuple(usages)
    sums = {key: sum(u.instances * getattr(u, key) for u in usages) for key in _CELLS}
    return Usage(name="total", instances=1, **sums)


def check_room(usages: Iterable[Usage], board: Board) -> None:
    """Compare with what the FPGA has.

    Two lookup tables more are lost to the write port of each distributed RAM. What nextpnr adds at
    the ends of carry chains is not counted, so a design just below the limit can fail later.

    Raises
    ------
    RowmeshError
        Names every resource that is short, and by how much.
    """
    whole, device = total(usages), board.device
    short = [
        f"{needed} {what} of {there} ({needed - there} too many)"
        for what, needed, there in (
            ("lookup tables", whole.luts + 2 * whole.dpr, device.luts),
            ("flip-flops", whole.flip_flops, device.flip_flops),
            ("distributed RAMs (TRELLIS_DPR16X4)", whole.dpr, device.ram_slices),
            ("block RAMs (DP16KD)", whole.block_rams, device.block_rams),
            ("multipliers (MULT18X18D)", whole.multipliers, device.multipliers),
        )
        if needed > there
    ]
    if short:
        raise RowmeshError(
            f"the design does not fit board {board.name} ({board.device_name}): it needs "
            f"{'; '.join(short)}"
        )
