"""Program-level model: what a program does to memory, without time.

The instructions are replayed into the shadow registers of every unit; the units then run as a
network of processes that meet only through queues, as in the hardware, but on whole segments,
blocks and psum groups. The result cannot depend on the order in which processes run.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rowmesh.rtl.codes import Opcode, Source, Unit
from rowmesh.rtl.config import WORD_BYTES, Config
from rowmesh.rtl.layouts import CONFIG_BITS, SEGMENT_LOOPS, Layouts
from rowmesh.rtl.packing import descriptor_values
from rowmesh.sim_models.compress import rlc_decode, rlc_encode
from rowmesh.sim_models.compress_weights import decode_weight_block
from rowmesh.sim_models.golden_ops import requant
from rowmesh.sim_models.program_writes import FLAT, nest_addresses, reached

__all__ = ["ProgramModel", "PsumOverflow"]

Process = Generator[None, None, None]
#: Items that wait between two units: few, so that a program which counts on more stops here too.
_QUEUE = 2
Key = tuple[Any, ...]


class PsumOverflow(RuntimeError):
    """A psum does not fit its width: the hardware stops with a fault."""


class ProgramModel:
    """Run device programs on a memory.

    Parameters
    ----------
    config : Config
        The machine.
    memory : ndarray of uint8
        DRAM, changed in place.

    Raises
    ------
    RuntimeError
        From `run`: a program that can make no progress (the hardware would hang), or an overflow
        (`PsumOverflow`; `layer` says where).
    """

    def __init__(self, config: Config, memory: NDArray[np.uint8]) -> None:
        self.config, self.memory = config, memory
        self.layouts = Layouts(config)
        self.queues: defaultdict[Key, deque[Any]] = defaultdict(deque)
        self.shadows: defaultdict[Key, int] = defaultdict(int)
        self.busy: set[Key] = set()
        self.units = dict(self._units())
        self.psum_peak = 0
        self.layer = 0

    # -- the controller ------------------------------------------------------------------------

    def run(self, instructions: Sequence[int]) -> None:
        """Execute the instruction words of a program (without its header)."""
        masks = dict.fromkeys((Opcode.ROWS, Opcode.COLS, Opcode.UNITS), 0)
        steps: dict[str, int] | None = None
        for word in instructions:
            fields = descriptor_values(self.layouts.instruction, word)
            opcode, value = Opcode(fields["opcode"]), fields["data"]
            if opcode in masks:
                masks[opcode] = value
            elif opcode is Opcode.LAYER:
                self.layer = value
            elif opcode is Opcode.STEP:
                steps = descriptor_values(self.layouts.steps, word)
            elif opcode in (Opcode.WRITE, Opcode.WRITE_NUMBER, Opcode.ONE):
                self._write(opcode, masks, fields, FLAT)
            elif opcode in (Opcode.RAMP, Opcode.RAMP_NUMBER):
                if steps is None:
                    raise RuntimeError(f"{opcode.name} before the first STEP")
                self._write(opcode, masks, fields, steps)
            elif opcode in (Opcode.WAIT, Opcode.END):
                self._settle()
                kinds = {Unit.OUT_WRITER} if opcode is Opcode.WAIT else set(Unit)
                stuck = sorted(str(key) for key in self.busy if key[0] in kinds)
                if stuck:
                    raise RuntimeError(f"no progress at {opcode.name}: {', '.join(stuck[:20])}")
                if opcode is Opcode.END:
                    return

    def _write(
        self,
        opcode: Opcode,
        masks: dict[Opcode, int],
        fields: dict[str, int],
        steps: dict[str, int],
    ) -> None:
        unit = Unit(fields["unit"])
        layout = self.layouts.descriptor(unit)
        low = CONFIG_BITS * fields["index"]
        for place, value in reached(opcode, masks, fields, steps):
            if place[0] >= self.config.cluster_rows or place[1] >= self.config.cluster_cols:
                continue
            key = (unit, *place)
            self._wait_for_port(key)
            kept = self.shadows[key] & ~(((1 << CONFIG_BITS) - 1) << low)
            self.shadows[key] = kept | value << low
            if fields["go"]:
                packed = self.shadows[key] & ((1 << layout.size) - 1)
                self.queues[key].append(descriptor_values(layout, packed))

    def _wait_for_port(self, key: Key) -> None:
        """A port holds one descriptor; the bus stops until its unit has taken it."""
        if key not in self.units:
            raise RuntimeError(f"write to {key[0].name} {key[1:]}, which does not exist")
        if self.queues[key]:
            self._settle()
        if self.queues[key]:
            raise RuntimeError(f"configuration bus stops at {key[0].name} {key[1:]}")

    def _settle(self) -> None:
        """Run all units until none can go on; each yields when it waits."""
        while True:
            before = self.progress
            for process in self.units.values():
                next(process)
            if self.progress == before:
                return

    progress = 0

    # -- plumbing ------------------------------------------------------------------------------

    def _units(self) -> Generator[tuple[Key, Process], None, None]:
        c = self.config
        counts: dict[Unit, tuple[int, Callable[..., Process]]] = {
            Unit.PARAM_LOADER: (1, self._param_loader),
            Unit.IACT_LOADER: (c.glb_iact_banks, self._iact_loader),
            Unit.IACT_READER: (c.glb_iact_banks, self._iact_reader),
            Unit.IACT_ROUTER: (c.glb_iact_banks, self._iact_router),
            Unit.WEIGHT_LOADER: (c.pe_rows, self._weight_loader),
            Unit.WEIGHT_ROUTER: (c.pe_rows, self._weight_router),
            Unit.PE: (c.pes_per_cluster, self._pe),
            Unit.PSUM_ROUTER: (c.pe_cols, self._psum_router),
            Unit.PSUM_BANK: (c.pe_cols, self._psum_bank),
            Unit.POST: (1, self._post),
            Unit.OUT_WRITER: (1, self._out_writer),
        }
        self.banks: dict[Key, NDArray[np.uint8]] = {}
        self.tiles: defaultdict[Key, int] = defaultdict(int)
        for y in range(c.cluster_rows):
            for x in range(c.cluster_cols):
                for b in range(c.glb_iact_banks):
                    self.banks[(y, x, b)] = np.zeros(c.glb_iact_words * WORD_BYTES, np.uint8)
                for unit, (count, process) in counts.items():
                    for i in range(count):
                        yield (unit, y, x, i), self._forever(unit, process, y, x, i)

    def _forever(
        self, unit: Unit, process: Callable[..., Process], y: int, x: int, i: int
    ) -> Process:
        key = (unit, y, x, i)
        while True:
            if not self.queues[key]:
                self.busy.discard(key)
                yield
                continue
            self.busy.add(key)
            self.progress += 1
            yield from process(self.queues[key].popleft(), y, x, i)

    def _take(self, *key: Any) -> Generator[None, None, Any]:
        queue = self.queues[key]
        while not queue:
            yield
        self.progress += 1
        return queue.popleft()

    def _give(self, item: Any, *key: Any, limit: int = _QUEUE) -> Process:
        queue = self.queues[key]
        while len(queue) >= limit:
            yield
        self.progress += 1
        queue.append(item)

    def _words(self, address: int, words: int) -> NDArray[np.uint8]:
        size = words * WORD_BYTES
        if address + size > len(self.memory):
            raise RuntimeError(f"read of {address:#x}+{size:#x} is outside the memory")
        return self.memory[address : address + size]

    # -- units ---------------------------------------------------------------------------------

    def _iact_loader(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        while self.tiles[(y, x, i)] >= d["slots"]:
            yield
        width = d["left"] + d["words"] + d["right"]
        rows: list[NDArray[np.uint8]] = []
        border = np.full(width * WORD_BYTES, d["pad"], np.uint8)
        for plane in range(d["planes"]):
            rows += [border] * d["top"]
            for row in range(d["rows"]):
                address = d["base"] + plane * d["plane_stride"] + row * d["row_stride"]
                line = border.copy()
                inner = slice(d["left"] * WORD_BYTES, (d["left"] + d["words"]) * WORD_BYTES)
                line[inner] = self._row(address & 0xFFFFFFFF, d["words"], d["compressed"])
                rows.append(line)
            rows += [border] * d["bottom"]
        tile = np.concatenate(rows) if rows else np.zeros(0, np.uint8)
        start = d["dest"] * WORD_BYTES
        self.banks[(y, x, i)][start : start + len(tile)] = tile
        self.tiles[(y, x, i)] += 1
        self.progress += 1

    def _row(self, address: int, words: int, compressed: int) -> NDArray[np.uint8]:
        if not compressed:
            return self._words(address, words)
        raw = self.memory[address:].view()
        chunk = [
            int.from_bytes(raw[8 * k : 8 * k + 8].tobytes(), "little")
            for k in range(words * 8 // 5 + 2)
        ]
        return np.asarray(rlc_decode(chunk, words * WORD_BYTES), np.int64).astype(np.uint8)

    def _iact_reader(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        while not self.tiles[(y, x, i)]:
            yield
        bank = self.banks[(y, x, i)]
        address = nest_addresses(d["base"], [(p["count"], p["stride"]) for p in d["loops"]])
        address &= (1 << self.layouts.iact_address_bits) - 1
        inner = d["loops"][:SEGMENT_LOOPS]
        values = bank[(address[:, None] + np.arange(d["bytes"])) % len(bank)]
        length = d["bytes"] * inner[0]["count"] * inner[1]["count"]
        for segment in values.reshape(-1, length):
            yield from self._give(segment, "iact", y, x, i, Source.LOCAL)
        if d["release"]:
            self.tiles[(y, x, i)] -= 1

    def _iact_router(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        for n in range(d["segments"]):
            item = yield from self._take("iact", y, x, i, Source(d["source"]))
            for pe, listener in enumerate(d["listeners"]):
                if listener["enable"] and listener["phase"] == n % d["period"]:
                    yield from self._give(item, "pe_iact", y, x, pe, i)
            yield from self._neighbours(d, item, "iact", y, x, i)

    def _neighbours(
        self, d: dict[str, Any], item: Any, kind: str, y: int, x: int, i: int
    ) -> Process:
        for flag, dy, dx, source in (
            ("to_north", -1, 0, Source.SOUTH),
            ("to_south", 1, 0, Source.NORTH),
            ("to_west", 0, -1, Source.EAST),
            ("to_east", 0, 1, Source.WEST),
        ):
            if d.get(flag):
                yield from self._give(item, kind, y + dy, x + dx, i, source)

    def _weight_loader(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        c = self.config
        bits = c.weight_dense_word_bits if d["dense"] else c.weight_word_bits
        raw = np.unpackbits(self._words(d["base"], d["words"]), bitorder="little")
        count = len(raw) // bits
        table = raw[: count * bits].reshape(count, bits) @ (1 << np.arange(bits, dtype=np.int64))
        words = [int(word) for word in table]
        for _ in range(d["repeats"]):
            at = 0
            for _ in range(d["blocks"]):
                block = words[at : at + words[at] + 1]
                at += len(block)
                yield from self._give(block, "weight", y, x, i, Source.LOCAL)
        yield

    def _weight_router(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        cols = [j for j in range(self.config.pe_cols) if d["listeners"] >> j & 1]
        for n in range(d["blocks"]):
            item = yield from self._take("weight", y, x, i, Source(d["source"]))
            for j in [cols[n % len(cols)]] if d["deal"] else cols:
                pe = i * self.config.pe_cols + j
                yield from self._give(item, "pe_weight", y, x, pe, limit=1)
            yield from self._neighbours(d, item, "weight", y, x, i)

    def _pe(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        row, col = divmod(i, self.config.pe_cols)
        last = row == self.config.pe_rows - 1
        below: Key = ("chain", y, x, col) if last else ("psum", y, x, i + self.config.pe_cols)
        for _ in range(d["groups"]):
            sums = np.zeros((d["rows"] * d["windows"], d["psums"]), np.int64)
            for _ in range(d["blocks"]):
                block = yield from self._take("pe_weight", y, x, i)
                columns = decode_weight_block(
                    block, d["cols"], d["psums"], self.config, dense=bool(d["weight_dense"])
                )
                matrix = np.asarray(columns, np.int64)
                for row_index in range(d["rows"]):
                    segments = []
                    for _ in range(d["windows"] + d["segments"] - 1):
                        item = yield from self._take("pe_iact", y, x, i, d["iact_source"])
                        if len(item) > d["segment_cols"]:
                            raise RuntimeError(f"PE {y, x, i}: segment of {len(item)} values")
                        segments.append(item.view(np.int8) if d["iact_signed"] else item)
                    line = np.asarray(segments, np.int64)
                    for w in range(d["windows"]):
                        window = line[w : w + d["segments"]].reshape(-1)[: d["cols"]]
                        sums[row_index * d["windows"] + w] += window @ matrix
            # One group a window, or one for the whole tile: the words and their order are the same.
            own = sums.reshape(-1)
            if d["chain"]:
                own = own + (yield from self._take(*below))
            self._check(own, f"PE {y, x, i}")
            yield from self._give(own, "psum", y, x, i)

    def _check(self, sums: NDArray[np.int64], where: str) -> None:
        low, high = int(sums.min(initial=0)), int(sums.max(initial=0))
        self.psum_peak = max(self.psum_peak, high, -low)
        half = 1 << (self.config.psum_bits - 1)
        if not -half <= low <= high < half:
            raise PsumOverflow(f"{where}: psums {low}..{high}: {self.config.psum_bits} bits")

    def _psum_router(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        north: Key = ("south", y - 1, x, i) if d["to_north"] else ("bank", y, x, i)
        ways = [(("psum", y, x, i), north)]
        if d["from_south"]:
            ways.append((("south", y, x, i), ("chain", y, x, i)))
        left = [d["beats"]] * len(ways)
        while any(left):
            for k, (source, target) in enumerate(ways):  # each goes on while the other waits
                if left[k] and self.queues[source] and len(self.queues[target]) < _QUEUE:
                    item = yield from self._take(*source)
                    left[k] -= len(item) // 2
                    yield from self._give(item, *target)
                    break
            else:
                yield

    def _psum_bank(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        for _ in range(d["tiles"]):
            while len(self.queues[("tile", y, x, i)]) >= (1 if d["single"] else 2):
                yield
            total = np.zeros(d["words"] * 2, np.int64)
            for _ in range(d["passes"]):
                have = np.zeros(0, np.int64)
                while len(have) < len(total):
                    item = yield from self._take("bank", y, x, i)
                    have = np.concatenate([have, item])
                total = total + have
                self._check(total, f"psum bank {y, x, i}")
            yield from self._give(total.reshape(-1, 2), "tile", y, x, i)

    def _param_loader(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        table = self._words(d["base"], 2 * d["channels"]).view(np.uint64).reshape(-1, 2)
        bias = (table[:, 0] & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)
        multiplier = (table[:, 0] >> np.uint64(32)).astype(np.int64)
        yield from self._give(
            (bias.astype(np.int64), multiplier, table[:, 1].astype(np.int64)), "params", y, x
        )
        yield

    def _post(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        while not self.queues[("params", y, x)]:
            yield
        bias, multiplier, shift = self.queues[("params", y, x)][0]
        loops = d["loops"]
        at = nest_addresses(d["psum_base"], [(p["count"], p["psum_stride"]) for p in loops])
        pair = nest_addresses(d["param_base"], [(p["count"], p["param_stride"]) for p in loops])
        at &= (1 << self.layouts.psum_address_bits) - 1
        pair &= (1 << self.layouts.param_address_bits) - 1
        bank, word = at >> self.layouts.psum_word_bits, at & (1 << self.layouts.psum_word_bits) - 1
        for _ in range(d["tiles"]):
            psums = np.zeros((len(at), 2), np.int64)
            for j in range(self.config.pe_cols):
                if d["banks"] >> j & 1:
                    tile = yield from self._take("tile", y, x, j)
                    psums[bank == j] = tile[word[bank == j]]
            channel = 2 * pair[:, None] + np.arange(2)
            acc = psums + bias[channel]
            if d["sum"]:
                total = (acc * multiplier[channel]).sum(axis=1)
                out = requant(total, np.ones(1, np.int64), shift[channel[:, 0]], "single")
            else:
                out = requant(acc, multiplier[channel], shift[channel], self.config.rounding)
            out = np.clip(out + d["zero_point"], d["low"], d["high"])
            words = out.reshape(-1, d["pool"], WORD_BYTES).max(axis=1)
            for line in words.astype(np.uint8):
                yield from self._give(line, "word", y, x)
        if d["release"]:
            self.queues[("params", y, x)].popleft()

    def _out_writer(self, d: dict[str, Any], y: int, x: int, i: int) -> Process:
        for address in nest_addresses(d["base"], [(p["count"], p["stride"]) for p in d["loops"]]):
            run = []
            for _ in range(d["words"]):
                run.append((yield from self._take("word", y, x)))
            content = np.concatenate(run)
            if d["compressed"]:
                content = np.asarray(rlc_encode(content), np.uint64).view(np.uint8)
            self.memory[address : address + len(content)] = content
