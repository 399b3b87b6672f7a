"""Agents around routers: one driver an input, one monitor and scoreboard an output."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge

from rowmesh.verif.stream import Scoreboard, StreamDriver, StreamMonitor

__all__ = ["Agents", "wake"]


def wake(dut: Any) -> None:
    """Make Icarus evaluate every ``always @*`` of a design once.

    Icarus 11 misses what changes at time 0, so blocks whose inputs never change stay X. Yosys put
    a register into every such block for that purpose, which is set here.
    """
    if not cocotb.SIM_NAME.lower().startswith("icarus"):
        return
    for child in dut:
        if "dump_module" in child._name:
            child.value = 1
        elif isinstance(child, HierarchyObject):
            wake(child)


class Agents:
    """Drive inputs, collect outputs, compare.

    Parameters
    ----------
    dut
        Device under test.
    inputs, outputs : iterable of str
        Names of all its streams.
    stall : float
        Chance of a stall on every stream.

    Attributes
    ----------
    send, expect : dict of str to list of int
        Payloads by stream, filled by the bench before `run`.
    """

    def __init__(
        self, dut: Any, inputs: Iterable[str], outputs: Iterable[str], stall: float = 0.0
    ) -> None:
        self.drivers = {name: StreamDriver(dut, name, stall_probability=stall) for name in inputs}
        self.monitors = {
            name: StreamMonitor(dut, name, stall_probability=stall) for name in outputs
        }
        self.send: defaultdict[str, list[int]] = defaultdict(list)
        self.expect: defaultdict[str, list[int]] = defaultdict(list)
        self._clk = dut.clk

    async def run(self, extra: Mapping[str, list[int]] | None = None, timeout: int = 2000) -> None:
        """Send everything and wait until exactly what is expected has come.

        Parameters
        ----------
        extra : mapping, optional
            Payloads put behind on an input, which must not be taken.
        timeout : int
            Cycles without progress that are too many.
        """
        unknown = (set(self.send) - set(self.drivers)) | (set(self.expect) - set(self.monitors))
        assert not unknown, f"no such streams: {sorted(unknown)}"
        before = {name: driver.sent for name, driver in self.drivers.items()}
        for name, payloads in self.send.items():
            self.drivers[name].put(*payloads)
        for name, payloads in (extra or {}).items():
            self.drivers[name].put(*payloads)
        boards = [Scoreboard(monitor, self.expect[name]) for name, monitor in self.monitors.items()]
        for board in boards:
            await board.finish(timeout=timeout, idle=0)
        await self._taken(before, timeout)
        for board in boards:
            await board.finish(idle=0)

    async def _taken(self, before: Mapping[str, int], timeout: int) -> None:
        """Every input ends up with its payloads taken, and none of the extra ones."""
        for name, driver in self.drivers.items():
            target = before[name] + len(self.send[name])
            for _ in range(timeout):
                if driver.sent >= target:
                    break
                await FallingEdge(self._clk)
        for _ in range(20):
            await FallingEdge(self._clk)
        for name, driver in self.drivers.items():
            taken, wanted = driver.sent - before[name], len(self.send[name])
            assert taken == wanted, f"stream {name}: {taken} beats taken, not {wanted}"

    def forget(self) -> None:
        """Drop what is queued, received and expected (for a reset in the middle)."""
        for driver in self.drivers.values():
            driver.clear()
        for monitor in self.monitors.values():
            monitor.received.clear()
        self.send.clear()
        self.expect.clear()

    def stall(self, probability: float) -> None:
        """Set the chance of a stall on every stream."""
        for agent in (*self.drivers.values(), *self.monitors.values()):
            agent.stall_probability = probability
