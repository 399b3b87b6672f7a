"""Find combinational loops across the whole hierarchy, without flattening it.

Each distinct module is looked at once: bit by bit, what depends on what within the same cycle. Its
result, which outputs follow which inputs, stands for the module wherever it is used. That finds
what flattening would find, at the cost of the distinct modules.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rowmesh.synth.yosys import Progress, quiet, run

__all__ = ["check_loops"]

#: Cells without a combinational path: registers, memory writes, checks.
_NO_PATH = re.compile(
    r"\$(_?(al|a|s)?dff|ff$|_FF_|memwr|meminit|check|assert|assume|cover|print|live|fair|scopeinfo)"
)
_LATCH = re.compile(r"\$(_?(ad|d)latch|_?sr)")
#: Output bit i depends on bit i of the inputs (and on all bits of S).
_BITWISE = {"$and", "$or", "$xor", "$xnor", "$not", "$pos", "$mux", "$bwmux", "$buf"}
#: Output bit i depends on the bits 0 to i of the inputs.
_CARRY = {"$add", "$sub", "$neg", "$mul", "$alu", "$lcu", "$macc", "$macc_v2"}

Bit = int | str
#: For each output port bit, the input port bits that it follows, as (port, index).
Summary = dict[tuple[str, int], frozenset[tuple[str, int]]]


def check_loops(path: Path, top: str, progress: Progress = quiet) -> None:
    """Look for combinational loops and latches in a design.

    Parameters
    ----------
    path : Path
        Verilog, or RTLIL (``.il``), with all modules.
    top : str
        Top module.
    progress : callable
        Is told what goes on.

    Raises
    ------
    RuntimeError
        There is a loop (the message follows it from signal to signal) or a latch; or Yosys cannot
        read the design.
    """
    read = "read_rtlil" if path.suffix == ".il" else "read_verilog -sv"
    script = (
        f"{read} design{path.suffix}\nhierarchy -check -top {top}\nproc\nwrite_json design.json\n"
    )
    with TemporaryDirectory(prefix="rowmesh_check_") as name:
        folder = Path(name)
        shutil.copyfile(path, folder / f"design{path.suffix}")
        run(script, folder, name="check", watch=quiet, progress=progress)
        modules = json.loads((folder / "design.json").read_text(encoding="utf-8"))["modules"]
    summaries: dict[str, Summary] = {}

    def visit(module: str) -> None:
        if module in summaries:
            return
        for cell in modules[module]["cells"].values():
            if cell["type"] in modules:
                visit(cell["type"])
        progress(f"loops in {module} ({len(summaries) + 1} of {len(modules)})")
        summaries[module] = _Graph(module, modules[module], summaries).check()

    visit(top)


class _Graph:
    """What depends on what in one module. Nodes are nets (their number) and helpers (negative)."""

    def __init__(
        self, name: str, module: Mapping[str, Any], summaries: Mapping[str, Summary]
    ) -> None:
        self.name = name
        self.module = module
        self.sources: dict[int, list[int]] = {}
        self.labels: dict[int, str] = {}
        self._helpers = 0
        for cell_name, cell in module["cells"].items():
            kind = cell["type"]
            if kind in summaries:
                self._add_module(cell_name, cell, summaries[kind])
            elif _LATCH.match(kind):
                raise RuntimeError(f"latch in module {name}: {self._cell_label(cell_name, cell)}")
            elif not _NO_PATH.match(kind):
                self._add_cell(cell_name, cell)

    # -- building --------------------------------------------------------------------------

    def _helper(self, label: str = "") -> int:
        self._helpers -= 1
        if label:
            self.labels[self._helpers] = label
        return self._helpers

    def _connect(self, sources: Iterable[Bit], target: Bit) -> None:
        if isinstance(target, int):
            found = self.sources.setdefault(target, [])
            found.extend(bit for bit in sources if isinstance(bit, int))

    def _add_module(self, name: str, cell: Mapping[str, Any], summary: Summary) -> None:
        helpers: dict[frozenset[tuple[str, int]], int] = {}
        for (port, index), inputs in summary.items():
            bits = cell["connections"].get(port, [])
            if index >= len(bits) or not inputs:
                continue
            if inputs not in helpers:
                helper = helpers[inputs] = self._helper(f"through {name} ({cell['type']})")
                connected = cell["connections"]
                self._connect((connected[p][i] for p, i in inputs if p in connected), helper)
            self._connect([helpers[inputs]], bits[index])

    def _add_cell(self, name: str, cell: Mapping[str, Any]) -> None:
        kind, bits = cell["type"], cell["connections"]
        directions = cell["port_directions"]
        if kind in ("$memrd", "$memrd_v2", "$mem", "$mem_v2"):
            self._add_memory(kind, cell)
            return
        inputs = [port for port in bits if directions[port] != "output"]
        outputs = [port for port in bits if directions[port] != "input"]
        if kind in _BITWISE or kind == "$pmux":
            width = len(bits["Y"])
            select = self._helper()
            self._connect(bits.get("S", []), select)
            for i, target in enumerate(bits["Y"]):
                for port in inputs:
                    if port == "S":
                        self._connect([select], target)
                    elif kind == "$pmux" and port == "B":
                        self._connect(bits[port][i::width], target)
                    elif bits[port]:
                        # A shorter operand is extended by its last bit, or by zeros.
                        self._connect([bits[port][min(i, len(bits[port]) - 1)]], target)
            return
        if kind in _CARRY and set(inputs) <= {"A", "B"} and outputs == ["Y"]:
            below: list[Bit] = []
            for i, target in enumerate(bits["Y"]):
                chain = self._helper()
                self._connect(below, chain)
                for port in inputs:
                    if bits[port]:
                        self._connect([bits[port][min(i, len(bits[port]) - 1)]], chain)
                self._connect([chain], target)
                below = [chain]
            return
        whole = self._helper()
        for port in inputs:
            self._connect(bits[port], whole)
        for port in outputs:
            for target in bits[port]:
                self._connect([whole], target)

    def _add_memory(self, kind: str, cell: Mapping[str, Any]) -> None:
        """Address to data of the read ports without a clock."""
        bits, parameters = cell["connections"], cell["parameters"]
        prefix = "RD_" if kind.startswith("$mem") and not kind.startswith("$memrd") else ""
        data, address = bits[f"{prefix}DATA"], bits[f"{prefix}ADDR"]
        clocked = str(parameters[f"{prefix}CLK_ENABLE"])[::-1]
        ports = int(parameters["RD_PORTS"], 2) if prefix else 1
        width, depth = len(data) // max(1, ports), len(address) // max(1, ports)
        for port in range(ports):
            if clocked[port] == "1":
                continue
            helper = self._helper()
            self._connect(address[port * depth : (port + 1) * depth], helper)
            for target in data[port * width : (port + 1) * width]:
                self._connect([helper], target)

    # -- checking --------------------------------------------------------------------------

    def check(self) -> Summary:
        """Order the nodes, or raise; then follow the inputs through to the outputs."""
        targets: dict[int, list[int]] = {}
        waits: dict[int, int] = {}
        for target, sources in self.sources.items():
            waits[target] = len(sources)
            for source in sources:
                targets.setdefault(source, []).append(target)
        ready = [node for node in targets if not waits.get(node)]
        ready += [node for node, count in waits.items() if not count and node not in targets]
        inputs = [
            (name, index, bit)
            for name, port in self.module["ports"].items()
            if port["direction"] != "output"
            for index, bit in enumerate(port["bits"])
        ]
        reached: dict[int, int] = {}
        for number, (_, _, bit) in enumerate(inputs):
            if isinstance(bit, int):
                reached[bit] = reached.get(bit, 0) | 1 << number
        done = 0
        while ready:
            node = ready.pop()
            done += 1
            mask = reached.get(node, 0)
            for target in targets.get(node, ()):
                if mask:
                    reached[target] = reached.get(target, 0) | mask
                waits[target] -= 1
                if not waits[target]:
                    ready.append(target)
        stuck = {node for node, count in waits.items() if count}
        if stuck:
            raise RuntimeError(self._describe(stuck))
        known: dict[int, frozenset[tuple[str, int]]] = {}
        summary: Summary = {}
        for name, port in self.module["ports"].items():
            if port["direction"] == "input":
                continue
            for index, bit in enumerate(port["bits"]):
                mask = reached.get(bit, 0) if isinstance(bit, int) else 0
                if mask not in known:
                    known[mask] = frozenset(
                        (inputs[n][0], inputs[n][1]) for n in range(len(inputs)) if mask >> n & 1
                    )
                summary[name, index] = known[mask]
        return summary

    def _describe(self, stuck: set[int]) -> str:
        """A loop among nodes that wait for each other: every one has a source that waits too."""
        node = min(stuck)
        path: dict[int, None] = {}
        while node not in path:
            path[node] = None
            node = next(source for source in self.sources[node] if source in stuck)
        nodes = list(path)
        loop = nodes[nodes.index(node) :][::-1]
        names = self._net_names()
        labels: list[str] = []
        for item in loop:
            label = self.labels.get(item) or names.get(item, "")
            if label and label not in labels[-1:]:
                labels.append(label)
        first = next((i for i, label in enumerate(labels) if not label.startswith("through")), 0)
        labels = labels[first:] + labels[:first]
        return f"combinational loop in module {self.name}: {' -> '.join([*labels, labels[0]])}"

    def _net_names(self) -> dict[int, str]:
        """The best name of every net: one that the designer gave, and a short one."""
        names: dict[int, tuple[int, int, str]] = {}
        for name, net in self.module["netnames"].items():
            for index, bit in enumerate(net["bits"]):
                text = f"{name}[{index}]" if len(net["bits"]) > 1 else name
                rank = (net["hide_name"] or name.startswith("$"), len(name), text)
                if isinstance(bit, int) and (bit not in names or rank < names[bit]):
                    names[bit] = rank
        return {bit: name for bit, (_, _, name) in names.items()}

    @staticmethod
    def _cell_label(name: str, cell: Mapping[str, Any]) -> str:
        return f"{name} ({cell['type']})"
