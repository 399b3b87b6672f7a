"""FPGA boards with an ECP5 and a serial port, as `amaranth-boards` describes them."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rowmesh.gen.errors import RowmeshError

__all__ = ["BOARDS", "DEVICES", "Board", "Device", "Pin", "load_board"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """What an ECP5 has (Lattice FPGA-DS-02012, and what nextpnr-ecp5 counts).

    Parameters
    ----------
    luts, flip_flops : int
        Four-input lookup tables; every one has a flip-flop.
    ram_slices : int
        Places for 16 x 4 bits of distributed RAM. One takes four lookup tables, and two more are
        lost to its write port.
    block_rams : int
        Block RAMs of 18 kbit (DP16KD).
    multipliers : int
        18 x 18 bit (MULT18X18D).
    memory_bytes : int
        Block RAM that a shell takes as its memory, unless told otherwise.
    placer : str
        Of nextpnr. What ``static`` places often does not route on a small FPGA, which is nearly
        full; on a large one it takes half the time of ``heap``.
    """

    luts: int
    flip_flops: int
    ram_slices: int
    block_rams: int
    multipliers: int
    memory_bytes: int
    placer: str


DEVICES = {
    "LFE5U-25F": Device(
        luts=24288,
        flip_flops=24288,
        ram_slices=3036,
        block_rams=56,
        multipliers=28,
        memory_bytes=64 << 10,
        placer="heap",
    ),
    "LFE5U-45F": Device(
        luts=43848,
        flip_flops=43848,
        ram_slices=5481,
        block_rams=108,
        multipliers=72,
        memory_bytes=128 << 10,
        placer="static",
    ),
    "LFE5U-85F": Device(
        luts=83640,
        flip_flops=83640,
        ram_slices=10455,
        block_rams=208,
        multipliers=156,
        memory_bytes=128 << 10,
        placer="static",
    ),
}

#: Board to module and class of `amaranth_boards`: those with a clock, a UART and LEDs.
BOARDS = {
    "ulx3s_25f": ("ulx3s", "ULX3S_25F_Platform"),
    "ulx3s_45f": ("ulx3s", "ULX3S_45F_Platform"),
    "ulx3s_85f": ("ulx3s", "ULX3S_85F_Platform"),
    "icesugar_pro": ("icesugar_pro", "ICESugarProPlatform"),
    "icepi_zero": ("icepi_zero", "IcepiZero1_3Platform"),
}


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A port of the design on a pin of the board.

    Parameters
    ----------
    port : str
        Of the design.
    site : str
        Of the package.
    attributes : tuple of (str, str)
        Of the I/O buffer.
    inverted : bool
        Low means on.
    """

    port: str
    site: str
    attributes: tuple[tuple[str, str], ...]
    inverted: bool

    def constraints(self) -> Iterator[str]:
        """Lines of the LPF file."""
        yield f'LOCATE COMP "{self.port}" SITE "{self.site}";'
        values = " ".join(f"{key}={value}" for key, value in self.attributes)
        if values:
            yield f'IOBUF PORT "{self.port}" {values};'


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the flow must know of a board.

    Parameters
    ----------
    name : str
        See `BOARDS`.
    device_name : str
        Of the FPGA, without package and speed.
    package, speed : str
        As nextpnr-ecp5 names the package; speed grade, 6 is the slowest.
    device_option : str
        Of nextpnr-ecp5.
    clock_hz : int
        Of the oscillator.
    clock, rx, tx : Pin
        Oscillator, and the serial line as the FPGA sees it.
    leds : tuple of Pin
        LEDs, at most four.
    """

    name: str
    device_name: str
    package: str
    speed: str
    device_option: str
    clock_hz: int
    clock: Pin
    rx: Pin
    tx: Pin
    leds: tuple[Pin, ...]

    @property
    def device(self) -> Device:
        """What there is room for."""
        return DEVICES[self.device_name]

    def options(self) -> list[str]:
        """Device, package and speed grade for nextpnr-ecp5."""
        return [self.device_option, "--package", self.package, "--speed", self.speed]

    def lpf(self) -> str:
        """Constraints: pins, and the oscillator's frequency, from which nextpnr derives others."""
        lines = [f'FREQUENCY PORT "{self.clock.port}" {self.clock_hz / 1e6:g} MHZ;']
        for pin in (self.clock, self.rx, self.tx, *self.leds):
            lines += pin.constraints()
        return "\n".join(lines) + "\n"


#: Signs of life of the shell.
_LEDS = 4


def load_board(name: str) -> Board:
    """Take what the flow needs from the definition in `amaranth-boards`.

    Raises
    ------
    RowmeshError
        No such board, or the package is missing.
    """
    if name not in BOARDS:
        raise RowmeshError(f"unknown board {name!r}; boards: {', '.join(BOARDS)}")
    module, platform_name = BOARDS[name]
    try:
        platform: Any = getattr(importlib.import_module(f"amaranth_boards.{module}"), platform_name)
    except ModuleNotFoundError:
        raise RowmeshError("boards are missing: pip install amaranth-boards") from None
    resources = {(found.name, found.number): found for found in platform.resources}
    clock = resources[platform.default_clk, 0]
    uart = resources["uart", 0]
    lines = {line.name: line for line in uart.ios}
    return Board(
        name=name,
        device_name=platform.device,
        package=platform._nextpnr_package_options[platform.package].upper(),
        speed=platform.speed,
        device_option=platform._nextpnr_device_options[platform.device],
        clock_hz=round(clock.clock.frequency),
        clock=_pin("clk_in", clock, clock.ios[0]),
        rx=_pin("rx", uart, lines["rx"].ios[0]),
        tx=_pin("tx", uart, lines["tx"].ios[0]),
        leds=tuple(_leds(resources)),
    )


def _leds(resources: dict[tuple[str, int], Any]) -> Iterator[Pin]:
    """Single LEDs, or else the colours of one."""
    found = [(item, item.ios[0]) for (name, _), item in resources.items() if name == "led"]
    if not found:
        colours = resources["rgb_led", 0]
        found = [(colours, colour.ios[0]) for colour in colours.ios]
    for number, (resource, pins) in enumerate(found[:_LEDS]):
        yield _pin(f"led_{number}", resource, pins)


def _pin(port: str, resource: Any, pins: Any) -> Pin:
    (site,) = pins.names
    attributes = tuple((key, str(value)) for key, value in resource.attrs.items())
    return Pin(port=port, site=site, attributes=attributes, inverted=pins.invert)
