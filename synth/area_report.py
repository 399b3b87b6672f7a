"""What an area report says, as a table and as JSON."""

import dataclasses
import json
from dataclasses import dataclass

from rowmesh.synth.published import PUBLISHED

__all__ = ["AreaReport", "Component", "print_report"]

_BITS = ("flip_flops", "spad_bits", "sram_bits")


@dataclass(frozen=True, kw_only=True)
class Component:
    """Area of one distinct module.

    Parameters
    ----------
    name : str
        Of the module.
    part_of : tuple of str
        Modules that it is a part of.
    instances : int
        In the whole design.
    nand2 : float
        Logic and flip-flops of one instance, without its submodules, in NAND2 equivalents.
    nand2_with_parts : float
        The same with all submodules.
    flip_flops, spad_bits, sram_bits : int
        Of one instance, without its submodules.
    """

    name: str
    part_of: tuple[str, ...]
    instances: int
    nand2: float
    nand2_with_parts: float
    flip_flops: int
    spad_bits: int
    sram_bits: int


@dataclass(frozen=True, kw_only=True)
class AreaReport:
    """Area of a design.

    Parameters
    ----------
    name : str
        Of the configuration.
    liberty : str
        File that the areas are from.
    components : tuple of Component
        The largest total first.
    seconds : float
        That it took.
    """

    name: str
    liberty: str
    components: tuple[Component, ...]
    seconds: float

    @property
    def nand2(self) -> float:
        """All logic and flip-flops, in NAND2 equivalents."""
        return sum(c.instances * c.nand2 for c in self.components)

    @property
    def flip_flops(self) -> int:
        """All flip-flops."""
        return sum(c.instances * c.flip_flops for c in self.components)

    @property
    def spad_bits(self) -> int:
        """Bits of memories with asynchronous read ports."""
        return sum(c.instances * c.spad_bits for c in self.components)

    @property
    def sram_bits(self) -> int:
        """Bits of memories with clocked read ports."""
        return sum(c.instances * c.sram_bits for c in self.components)

    def to_json(self) -> str:
        """The report, with totals and, where there is one, the published figure."""
        totals = {key: getattr(self, key) for key in ("nand2", *_BITS)}
        published = PUBLISHED.get(self.name)
        return json.dumps(
            {
                **dataclasses.asdict(self),
                "total": totals,
                "published": dataclasses.asdict(published) if published else None,
            },
            indent=1,
        )


def print_report(report: AreaReport) -> None:
    """Print the table of a report."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Area of {report.name} (cells: {report.liberty})")
    table.add_column("component", no_wrap=True)
    table.add_column("part of", max_width=24)
    for title in ("instances", "NAND2 each", "with parts", "NAND2 total", "%", "flip-flops"):
        table.add_column(title, justify="right")
    table.add_column("SPad bits", justify="right")
    table.add_column("SRAM bits", justify="right")
    whole = report.nand2 or 1.0
    for c in report.components:
        table.add_row(
            c.name,
            ", ".join(c.part_of),
            f"{c.instances:,}",
            f"{c.nand2:,.0f}",
            f"{c.nand2_with_parts:,.0f}",
            f"{c.instances * c.nand2:,.0f}",
            f"{100 * c.instances * c.nand2 / whole:.1f}",
            *(f"{c.instances * getattr(c, key):,}" for key in _BITS),
        )
    table.add_section()
    totals = (f"{getattr(report, key):,}" for key in _BITS)
    table.add_row("total", "", "", "", "", f"{report.nand2:,.0f}", "100.0", *totals)
    published = PUBLISHED.get(report.name)
    if published:
        table.caption = (
            f"logic {report.nand2 / 1000:,.0f} kNAND2 here, {published.logic_nand2 / 1000:,.0f} "
            f"kNAND2 published; memory {(report.spad_bits + report.sram_bits) / 8192:,.0f} KiB "
            f"here, {published.memory_kib:,.0f} KiB published\n{published.source}"
        )
    # A table whose figures are cut off says nothing.
    Console(width=max(Console().width, 140)).print(table)
