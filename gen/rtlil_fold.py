"""Equal modules of an RTLIL text become one."""

import dataclasses
import re
from collections.abc import Mapping

__all__ = ["CLOCK_PORTS", "Module", "fold"]

#: Ports beyond the signature that a separately converted module may have: they come first.
CLOCK_PORTS = ("clk", "rst")

_CELL = re.compile(r"^(\s+cell )\\(\S+)( .*)$")
_PORT = re.compile(r"^(  wire width \d+ (?:input|output|inout) )\d+( .*\\(\S+))$")
_PRIORITY = re.compile(r"^(\s+parameter (?:signed )?\\PRIORITY )32'([01]{32})$")
#: Attributes that say nothing about the hardware, and wires without bits: Verilog has no such.
_DROPPED = re.compile(
    r"^\s*attribute \\(generator|src|enum_base_type|enum_value_\S+) "
    r"|^  wire width 0 \\|^ {0,2}connect \\\S+ \{\s*\}$"
)


@dataclasses.dataclass
class Module:
    """One module of an RTLIL text."""

    name: str
    attributes: list[str]
    body: list[str]

    @staticmethod
    def split(text: str) -> dict[str, "Module"]:
        """Modules by name, in the order of the text."""
        modules: dict[str, Module] = {}
        attributes: list[str] = []
        current: Module | None = None
        for line in text.split("\n"):
            if not line or _DROPPED.match(line):
                continue
            if current is not None:
                if line == "end":
                    modules[current.name] = current
                    current = None
                else:
                    current.body.append(line)
            elif line.startswith("module \\"):
                current = Module(line.removeprefix("module \\"), attributes, [])
                attributes = []
            else:
                attributes.append(line)
        for module in modules.values():
            module._number_priorities()
            module._sort_ports()
        return modules

    def ports(self) -> list[str]:
        """Names of the ports."""
        return [match[3] for line in self.body if (match := _PORT.match(line))]

    def children(self) -> list[str]:
        """Types of the cells that are modules, in order, with repetitions."""
        return [match[2] for line in self.body if (match := _CELL.match(line))]

    def renamed(self, names: Mapping[str, str]) -> list[str]:
        """Body with the cell types replaced."""
        return [
            f"{match[1]}\\{names.get(match[2], match[2])}{match[3]}"
            if (match := _CELL.match(line))
            else line
            for line in self.body
        ]

    def _number_priorities(self) -> None:
        # Assertions carry minus their index in the whole netlist: keep only the order.
        found = {match[2] for line in self.body if (match := _PRIORITY.match(line))}
        rank = {bits: -1 - n for n, bits in enumerate(sorted(found, reverse=True))}
        for index, line in enumerate(self.body):
            if match := _PRIORITY.match(line):
                self.body[index] = f"{match[1]}32'{rank[match[2]] & 0xFFFFFFFF:032b}"

    def _sort_ports(self) -> None:
        # Amaranth orders ports by the surroundings, so equal modules would differ in it.
        ports: list[tuple[bool, str, list[str]]] = []
        attributes: list[str] = []
        others: list[str] = []
        for line in self.body:
            if line.startswith("  attribute "):
                attributes.append(line)
                continue
            if match := _PORT.match(line):
                name = match[3]
                ports.append((name not in CLOCK_PORTS, name, [*attributes, line]))
            else:
                others += [*attributes, line]
            attributes = []
        self.body = []
        for number, (_, _, lines) in enumerate(sorted(ports)):
            self.body += lines[:-1]
            self.body.append(_PORT.sub(rf"\g<1>{number}\g<2>", lines[-1]))
        self.body += others


def fold(text: str, top: str) -> str:
    """Merge equal modules and give them clean names; `top` keeps its own."""
    modules = Module.split(text)
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        seen.add(name)
        for child in modules[name].children():
            if child in modules and child not in seen:
                visit(child)
        order.append(name)

    visit(top)
    same: dict[str, str] = {}
    first: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}
    for name in order:
        module = modules[name]
        content = (tuple(module.attributes), tuple(module.renamed(same)))
        # The top stands alone: nothing instantiates it.
        same[name] = name if name == top else first.setdefault(content, name)

    names = {top: top}
    taken = {top}
    for name in reversed(order):
        if same[name] not in names:
            clean = _clean_name(same[name])
            unique, number = clean, 1
            while unique in taken:
                number += 1
                unique = f"{clean}_{number}"
            names[same[name]] = unique
            taken.add(unique)
    final = {name: names[representative] for name, representative in same.items()}
    lines: list[str] = []
    for name in order:
        if same[name] == name:
            lines += modules[name].attributes
            lines += [f"module \\{final[name]}", *modules[name].renamed(final), "end", ""]
    return "\n".join(lines)


def _clean_name(name: str) -> str:
    """Last part of the path as an identifier; a submodule without a name takes its parent's."""
    parent, _, last = name.rpartition(".")
    if last.startswith("U$"):
        return f"{_clean_name(parent)}_u{last[2:]}" if parent else f"u{last[2:]}"
    return re.sub(r"\W", "_", re.sub(r"\$\d+$", "", last))
