"""Bench of the model of DP16KD: widths, both ports, byte enables, collisions, first content."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from rowmesh.verif.stream import start_clock

__all__ = ["wrapper"]

BYTES = 2048
_PINS = (("DI", 18), ("AD", 14), ("DO", 18))


def wrapper(width_a: int, width_b: int, mode: str, initial: list[int]) -> str:
    """Verilog of a DP16KD with vectors for ports.

    Parameters
    ----------
    width_a, width_b : int
        DATA_WIDTH of the ports.
    mode : str
        WRITEMODE of both.
    initial : list of int
        The first words of 18 bits.
    """
    ports, pins = ["input clk"], [".CLKA(clk)", ".CLKB(clk)"]
    for p in "AB":
        ports += [f"input [17:0] di{p}", f"input [13:0] ad{p}", f"output [17:0] do{p}"]
        ports += [f"input ce{p}, input we{p}"]
        pins += [
            f".{name}{p}{n}({name.lower()}{p}[{n}])" for name, bits in _PINS for n in range(bits)
        ]
        pins += [f".CE{p}(ce{p})", f".WE{p}(we{p})", f".OCE{p}(1'b1)", f".RST{p}(1'b0)"]
        pins += [f".CS{p}{n}(1'b0)" for n in range(3)]
    parameters = [f".DATA_WIDTH_A({width_a})", f".DATA_WIDTH_B({width_b})"]
    parameters += [f'.WRITEMODE_{p}("{mode}")' for p in "AB"]
    for at in range(0, len(initial), 16):
        value = sum(word << 20 * n for n, word in enumerate(initial[at : at + 16]))
        parameters.append(f".INITVAL_{at // 16:02X}(320'h{value:x})")
    return (
        f"module dut({', '.join(ports)});\n  DP16KD #({', '.join(parameters)}) ram "
        f"({', '.join(pins)});\nendmodule\n"
    )


class Model:
    """2048 bytes of 9 bits, and what the ports show."""

    def __init__(self, widths: tuple[int, int], mode: str, initial: list[int]) -> None:
        self.widths, self.mode = widths, mode
        self.bytes = [0] * BYTES
        for n, word in enumerate(initial):
            self.bytes[2 * n], self.bytes[2 * n + 1] = word & 511, word >> 9
        self.shown = [0, 0]

    def _lanes(self, port: int, address: int) -> list[tuple[int, int, int]]:
        """(byte, shift in it, bits) of each part of the word of a port."""
        width = self.widths[port]
        if width >= 9:
            count = width // 9
            first = (address >> 3) // count * count
            return [(first + n, 0, 9) for n in range(count)]
        return [(address >> 3, (address & 7) // width * width, width)]

    def _enabled(self, port: int, address: int, lane: int) -> bool:
        return self.widths[port] < 18 or bool(address >> lane & 1)

    def step(self, port_inputs: list[dict[str, int]]) -> None:
        """One clock edge: `ce`, `we`, `ad`, `word` of both ports."""
        old = list(self.bytes)
        written: list[set[int]] = [set(), set()]
        for port, pins in enumerate(port_inputs):
            if pins["ce"] and pins["we"]:
                for lane, (at, shift, bits) in enumerate(self._lanes(port, pins["ad"])):
                    if self._enabled(port, pins["ad"], lane):
                        mask = (1 << bits) - 1
                        part = pins["word"] >> bits * lane & mask
                        self.bytes[at] = self.bytes[at] & ~(mask << shift) | part << shift
                        written[port].add(at)
        for port, pins in enumerate(port_inputs):
            if not pins["ce"] or (pins["we"] and self.mode == "NORMAL"):
                continue
            value = 0
            for lane, (at, shift, bits) in enumerate(self._lanes(port, pins["ad"])):
                seen = old[at]
                if at in written[1 - port]:
                    seen ^= 511
                elif pins["we"] and self.mode == "WRITETHROUGH":
                    seen = self.bytes[at]
                value |= (seen >> shift & (1 << bits) - 1) << bits * lane
            self.shown[port] = value


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_accesses(dut: Any) -> None:
    """Every cycle, what both ports show."""
    rng = random.Random(cocotb.RANDOM_SEED)
    widths = int(os.environ["WIDTH_A"]), int(os.environ["WIDTH_B"])
    mode = os.environ["MODE"]
    model = Model(widths, mode, [int(word) for word in os.environ["INITIAL"].split()])
    split = widths[0] == 36
    start_clock(dut)
    for _ in range(800):
        await FallingEdge(dut.clk)
        pins = []
        for port in range(2):
            write = rng.random() < 0.5 and not (split and port)
            # A few addresses, so that the ports meet.
            address = rng.randrange(6) << 6 | rng.getrandbits(6) if rng.random() < 0.9 else 16383
            word = rng.getrandbits(36 if split else 18)
            pins.append(
                {"ce": int(rng.random() < 0.8), "we": int(write), "ad": address, "word": word}
            )
        a, b = pins
        if not split and a["we"] and b["we"]:
            b["ce"] = 0  # two writes at once are nobody's
        if split:
            dut.diA.value, dut.diB.value = a["word"] & 0x3FFFF, a["word"] >> 18
        else:
            dut.diA.value, dut.diB.value = a["word"], b["word"]
        for name, wanted in (("A", a), ("B", b)):
            for pin in ("ce", "we", "ad"):
                getattr(dut, f"{pin}{name}").value = wanted[pin]
        model.step(pins)
        await FallingEdge(dut.clk)
        dut.ceA.value = dut.ceB.value = 0
        if split:
            assert int(dut.doA.value) | int(dut.doB.value) << 18 == model.shown[1]
        else:
            # Pins beyond the width mean nothing.
            shown = zip((dut.doA, dut.doB), widths, strict=True)
            found = [int(out.value) & (1 << width) - 1 for out, width in shown]
            assert found == model.shown
