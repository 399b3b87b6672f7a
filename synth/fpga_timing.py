"""What nextpnr says of timing: the clock's limit, and the slowest path by component and signal."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Hop", "Timing", "read_timing"]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A part of a path within one component.

    Parameters
    ----------
    component : str
        Instance path.
    signal : str
        By which the path comes in; of the first part, the register where it begins.
    ns : float
        Delay up to and including this part.
    """

    component: str
    signal: str
    ns: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Timing of one placed and routed design.

    Parameters
    ----------
    seed : int
        Of the placer.
    fmax_mhz, target_mhz : float
        What the clock can do, and what it shall.
    logic_ns, routing_ns : float
        Of the slowest path; logic with clock to output and setup.
    path : tuple of Hop
        The slowest path.
    utilization : dict
        Cells of each kind that nextpnr placed.
    """

    seed: int
    fmax_mhz: float
    target_mhz: float
    logic_ns: float
    routing_ns: float
    path: tuple[Hop, ...]
    utilization: dict[str, int]

    @property
    def met(self) -> bool:
        """Whether the clock can do what it shall."""
        return self.fmax_mhz >= self.target_mhz

    def describe(self) -> str:
        """The slowest path in one line."""
        parts = [f"{hop.component} ({hop.signal}, {hop.ns:.1f} ns)" for hop in self.path]
        return (
            f"{self.logic_ns:.1f} ns logic and {self.routing_ns:.1f} ns routing: "
            f"{' -> '.join(parts)}"
        )


#: What Yosys adds to the name of a signal for the cell that drives it.
_MADE = re.compile(r"_(TRELLIS_|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD|MULT18|DPR16X4|LSR|CE_).*$")


def read_timing(path: Path, seed: int, clock_net: str = "clk") -> Timing:
    """Read the report of nextpnr-ecp5.

    Parameters
    ----------
    path : Path
        What ``--report`` wrote.
    seed : int
        That it was placed with.
    clock_net : str
        Name of the clock net, without what nextpnr puts before it.
    """
    report = json.loads(path.read_text(encoding="utf-8"))
    name, clock = next(
        (name, found) for name, found in report["fmax"].items() if name.endswith(clock_net)
    )
    slowest = next(
        found
        for found in report["critical_paths"]
        if found["from"].endswith(name) and found["to"].endswith(name)
    )["path"]
    routing = sum(step["delay"] for step in slowest if step["type"] == "routing")
    return Timing(
        seed=seed,
        fmax_mhz=round(clock["achieved"], 2),
        target_mhz=round(clock["constraint"], 2),
        logic_ns=round(sum(step["delay"] for step in slowest) - routing, 2),
        routing_ns=round(routing, 2),
        path=tuple(_hops(slowest)),
        utilization={kind: found["used"] for kind, found in report["utilization"].items()},
    )


def _hops(steps: list[dict[str, Any]]) -> list[Hop]:
    """One for every component on the way, in order."""
    hops: list[Hop] = []
    at = 0.0
    net = ""
    for step in steps:
        at += step["delay"]
        if step["type"] == "routing":
            net = step["net"]
            continue
        component, register = _split(step["from"]["cell"])
        signal = _split(net)[1] if net else register
        if hops and hops[-1].component == component:
            hops[-1] = Hop(component=component, signal=hops[-1].signal, ns=round(at, 2))
        else:
            hops.append(Hop(component=component, signal=signal, ns=round(at, 2)))
    return hops


def _split(name: str) -> tuple[str, str]:
    """Component and signal of a cell or net of the flat netlist."""
    name = name.removeprefix("$glbnet$")
    parts = _MADE.sub("", name).split(".")
    # Parts of a memory are numbered.
    while len(parts) > 2 and re.fullmatch(r"\d+(_\w+)?(\[\d+\])?", parts[-1]):
        parts.pop()
    signal = re.sub(r"\[\d+\]$", "", parts[-1])
    return ".".join(parts[:-1]) or "board", signal
