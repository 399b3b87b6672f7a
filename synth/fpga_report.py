"""What a build for a board says: room, clock, slowest path, speed; as JSON and Markdown."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rowmesh.gen.files import write_in_one_step
from rowmesh.rtl.config import Config
from rowmesh.synth.boards import Board
from rowmesh.synth.fpga_stat import Usage, total
from rowmesh.synth.fpga_timing import Timing

__all__ = ["FpgaReport", "NetworkTime"]


@dataclass(frozen=True, kw_only=True)
class NetworkTime:
    """A compiled network: predictions of the compiler for the densities that it expects.

    Parameters
    ----------
    name : str
        Of the file.
    cycles : float
        Of the layers on the accelerator, for one input.
    effectual_macs : float
        Multiplications of two non-zeros, for one input.
    memory_bytes : int
        That the network takes; more than the board has does not fit.
    """

    name: str
    cycles: float
    effectual_macs: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class FpgaReport:
    """A build for a board.

    Parameters
    ----------
    config : Config
        The accelerator.
    config_name : str
        Its name.
    board : Board
        Where it shall run.
    clock_mhz : float
        Clock of the bitstream.
    memory_bytes : int
        Block RAM that is memory of the accelerator.
    tools : tuple of str
        What made it.
    usages : tuple of Usage
        By component.
    timings : tuple of Timing
        One a seed; none of a synthesis alone.
    networks : tuple of NetworkTime
        Networks whose time is said.
    """

    config: Config
    config_name: str
    board: Board
    clock_mhz: float
    memory_bytes: int
    tools: tuple[str, ...]
    usages: tuple[Usage, ...]
    timings: tuple[Timing, ...]
    networks: tuple[NetworkTime, ...]

    @property
    def total(self) -> Usage:
        """The whole design."""
        return total(self.usages)

    @property
    def fmax_mhz(self) -> float | None:
        """Median over the seeds."""
        return median(t.fmax_mhz for t in self.timings) if self.timings else None

    @property
    def slowest(self) -> Timing | None:
        """The seed whose path is told: the one that becomes the bitstream."""
        return max(self.timings, key=lambda t: t.fmax_mhz) if self.timings else None

    @property
    def peak_gops(self) -> float:
        """Two operations for every multiplier and cycle, at the bitstream's clock."""
        return 2 * self.config.macs * self.clock_mhz / 1e3

    def network_rows(self) -> Iterator[dict[str, Any]]:
        """What the report says of every network, at the bitstream's clock."""
        for network in self.networks:
            seconds = network.cycles / (self.clock_mhz * 1e6)
            yield {
                **dataclasses.asdict(network),
                "fits": network.memory_bytes <= self.memory_bytes,
                "ms": round(seconds * 1e3, 3),
                "effectual_gops": round(2 * network.effectual_macs / seconds / 1e9, 3),
            }

    def summary(self) -> str:
        """The most important figures, a line each."""
        whole, there = self.total, self.board.device
        lines = [
            f"{what}: {used:,} of {room:,} ({used / room:.0%})"
            for what, used, room in (
                ("lookup tables", whole.luts, there.luts),
                ("flip-flops", whole.flip_flops, there.flip_flops),
                ("block RAMs", whole.block_rams, there.block_rams),
                ("multipliers", whole.multipliers, there.multipliers),
            )
        ]
        if self.slowest:
            lines.append(f"Fmax: {self.fmax_mhz:.1f} MHz (median of {len(self.timings)})")
        lines.append(f"peak: {self.peak_gops:.2f} GOPS at {self.clock_mhz:g} MHz")
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``report.json`` and ``report.md``."""
        for name, text in (("report.json", self.to_json()), ("report.md", self.to_markdown())):

            def write(part: Path, text: str = text) -> None:
                part.write_text(text, encoding="utf-8")

            write_in_one_step(folder / name, write)

    def to_json(self) -> str:
        """The report for programs."""
        slowest = self.slowest
        whole = self.total
        return (
            json.dumps(
                {
                    "config_name": self.config_name,
                    "config": dataclasses.asdict(self.config),
                    "board": self.board.name,
                    "device": self.board.device_name,
                    "available": dataclasses.asdict(self.board.device),
                    "tools": self.tools,
                    "clock_mhz": self.clock_mhz,
                    "memory_bytes": self.memory_bytes,
                    "pes": self.config.pes,
                    "peak_gops": self.peak_gops,
                    "total": {**dataclasses.asdict(whole), "luts": whole.luts},
                    "components": [{**dataclasses.asdict(u), "luts": u.luts} for u in self.usages],
                    "placed": slowest.utilization if slowest else None,
                    "fmax_mhz_median": self.fmax_mhz,
                    "seeds": [dataclasses.asdict(timing) for timing in self.timings],
                    "networks": list(self.network_rows()),
                },
                indent=1,
            )
            + "\n"
        )

    def to_markdown(self) -> str:
        """The report for people."""
        return "\n".join(self._markdown()) + "\n"

    def _markdown(self) -> Iterator[str]:
        c, board = self.config, self.board
        yield f"# {self.config_name} on {board.name}"
        yield ""
        yield (
            f"{c.clusters} clusters of {c.pe_rows} x {c.pe_cols} PEs, {c.pes} PEs, {c.macs} "
            f"multipliers; {board.device_name}, speed grade {board.speed}; "
            f"{self.memory_bytes >> 10} KiB of block RAM as memory."
        )
        yield f"Tools: {'; '.join(self.tools)}."
        yield ""
        yield from self._timing_lines()
        yield "## Utilization"
        yield ""
        yield (
            "LUT: lookup tables in all, 2 of each CCU2C and 4 of each DPR16X4 included. Two more "
            "are lost to the write port of each DPR16X4, and nextpnr adds some at the ends of "
            "carry chains: *placed*."
        )
        yield ""
        yield from _table(("", *_TITLES), self._resource_rows())
        yield ""
        yield "By component, without the components in it:"
        yield ""
        rows = [
            (u.name, f"{u.instances}", *_figures(u), f"{u.instances * u.luts:,}")
            for u in self.usages
        ]
        yield from _table(("component", "instances", *_TITLES, "LUT in all"), rows)
        if self.networks:
            yield from self._network_lines()

    def _resource_rows(self) -> Iterator[tuple[str, ...]]:
        whole, there = self.total, self.board.device
        yield ("synthesized", *_figures(whole))
        slowest = self.slowest
        if slowest:
            placed = slowest.utilization
            kinds = ("TRELLIS_COMB", None, None, "TRELLIS_RAMW", "TRELLIS_FF")
            used = [f"{placed.get(kind, 0):,}" if kind else "" for kind in kinds]
            memories = [f"{placed.get(kind, 0):,}" for kind in ("DP16KD", "MULT18X18D")]
            yield ("placed", *used, *memories)
        room = (there.luts, None, None, there.ram_slices, there.flip_flops)
        blocks = (there.block_rams, there.multipliers)
        yield ("available", *("" if n is None else f"{n:,}" for n in (*room, *blocks)))

    def _timing_lines(self) -> Iterator[str]:
        yield "## Speed"
        yield ""
        slowest = self.slowest
        if slowest:
            fmax = ", ".join(f"{t.fmax_mhz:.1f} (seed {t.seed})" for t in self.timings)
            yield f"Fmax: median {self.fmax_mhz:.1f} MHz of {len(self.timings)} seeds: {fmax}."
            yield f"Slowest path of seed {slowest.seed}: {slowest.describe()}."
        yield (
            f"Clock {self.clock_mhz:g} MHz: peak {self.peak_gops:.2f} GOPS "
            "(2 operations for every multiplier and cycle)."
        )
        yield ""

    def _network_lines(self) -> Iterator[str]:
        yield ""
        yield "## Networks"
        yield ""
        yield (
            "Cycles as the compiler predicts them, for the densities that it expects, at the "
            "bitstream's clock; layers on the host are not in them."
        )
        yield ""
        titles = ("network", "KiB", "fits", "cycles", "ms", "effectual GOPS")
        rows = [
            (
                row["name"],
                f"{row['memory_bytes'] / 1024:,.0f}",
                "yes" if row["fits"] else "no",
                f"{row['cycles']:,.0f}",
                f"{row['ms']:,.2f}",
                f"{row['effectual_gops']:.2f}",
            )
            for row in self.network_rows()
        ]
        yield from _table(titles, rows)


_TITLES = ("LUT", "LUT4", "CCU2C", "DPR16X4", "FF", "DP16KD", "MULT18")


def _figures(usage: Usage) -> tuple[str, ...]:
    values = (usage.luts, usage.lut4, usage.carry, usage.dpr, usage.flip_flops)
    return tuple(f"{n:,}" for n in (*values, usage.block_rams, usage.multipliers))


def _table(titles: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
