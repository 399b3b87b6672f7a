"""A node of the configuration tree: one per cluster."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rowmesh.rtl.codes import Stepping, Unit
from rowmesh.rtl.config import Config, bits_for
from rowmesh.rtl.control.descriptor import DescriptorBank
from rowmesh.rtl.control.shared_descriptor import SharedDescriptorBank
from rowmesh.rtl.layouts import CONFIG_BITS, STEP_BITS, Layouts
from rowmesh.rtl.noc.fork import Fork
from rowmesh.rtl.noc.hop import Hop, connect_deep

__all__ = ["ConfigNode", "unit_counts"]


def unit_counts(config: Config) -> dict[Unit, int]:
    """Instances of every kind of unit in one cluster."""
    c = config
    return {
        Unit.PE: c.pes_per_cluster,
        Unit.IACT_ROUTER: c.glb_iact_banks,
        Unit.WEIGHT_ROUTER: c.pe_rows,
        Unit.PSUM_ROUTER: c.pe_cols,
        Unit.IACT_LOADER: c.glb_iact_banks,
        Unit.IACT_READER: c.glb_iact_banks,
        Unit.WEIGHT_LOADER: c.pe_rows,
        Unit.PSUM_BANK: c.pe_cols,
        Unit.POST: 1,
        Unit.OUT_WRITER: 1,
        Unit.PARAM_LOADER: 1,
    }


#: Kinds of units whose next descriptors lie side by side in one memory.
_BANKS = (
    (Unit.PE,),
    (Unit.IACT_ROUTER, Unit.WEIGHT_ROUTER, Unit.PSUM_ROUTER),
    (Unit.IACT_LOADER,),
    (Unit.IACT_READER,),
    (Unit.WEIGHT_LOADER, Unit.PARAM_LOADER),
    (Unit.PSUM_BANK,),
    (Unit.POST,),
    (Unit.OUT_WRITER,),
)
#: A PE has nothing to do if one of these is zero.
_PE_COUNTS = ("groups", "blocks", "rows", "windows", "segments", "cols", "psums")


class ConfigNode(wiring.Component):
    """Pass configuration words on to the south and east, and collect those for this cluster.

    Parameters
    ----------
    config : Config
        The machine.

    Attributes
    ----------
    row, col : In
        Position of the cluster: constants.
    enable_south, enable_east : In(1)
        Whether the tree goes on there: constants.
    i : In(stream of `Layouts.config_write`), south, east : Out(stream)
        The tree.
    pe, iact_router, ... : Out(stream of the unit's descriptor), array of instances
        One for every kind in `Unit`.
    pending : Out(1)
        A word is in this node, or a descriptor waits for its unit or is held for it.
    writer_pending : Out(1)
        A descriptor waits for the output writer or is held for it.
    moving : Out(1)
        A word is in this node: whatever unit it is for, its work is still to come.

    Notes
    -----
    Latency 1 cycle a node (a `Hop` at its input), one word a cycle; then see `DescriptorBank`. A
    word waits while a complete descriptor of an instance that it is for waits in the memory; PEs
    share theirs, see `SharedDescriptorBank`. With `config.deep_pipeline` two more hops lead to
    every bank, in which a word does not hold up those for others, and one for PEs takes 2 cycles.

    A node adds its step to the data of a ramp as the word comes in: nodes of column 0 the row's,
    since their words come from north, the others the column's, the first one none. So cluster
    (y, x) sees data + y row_step + x col_step. `Stepping` words set the steps, which stay over a
    reset: the controller refuses ramps of a program before its STEP. Between two nodes lie an
    adder and a fork.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layouts = layouts = Layouts(config)
        bus = stream.Signature(layouts.config_write)
        members: dict[str, Any] = {
            "row": In(bits_for(config.cluster_rows - 1)),
            "col": In(bits_for(config.cluster_cols - 1)),
            "enable_south": In(1),
            "enable_east": In(1),
            "i": In(bus),
            "south": Out(bus),
            "east": Out(bus),
            "pending": Out(1),
            "writer_pending": Out(1),
            "moving": Out(1),
        }
        for unit, count in unit_counts(config).items():
            signature = stream.Signature(layouts.descriptor(unit))
            members[unit.name.lower()] = Out(signature).array(count)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.hop = hop = Hop(self.layouts.config_write, eager=self.config.deep_pipeline)
        m.submodules.fork = fork = Fork(self.layouts.config_write, 3)
        self._add_step(m, hop)
        connect(m, hop.o, fork.i)
        word: Any = hop.o.payload
        here = word.rows.bit_select(self.row, 1) & word.cols.bit_select(self.col, 1)
        m.d.comb += fork.select.eq(Cat(self.enable_south, self.enable_east, here))
        connect(m, fork.o[0], flipped(self.south))
        connect(m, fork.o[1], flipped(self.east))

        counts = unit_counts(self.config)
        banks = [[(unit, i) for unit in kinds for i in range(counts[unit])] for kinds in _BANKS]
        local, under_way = self._decode(m, fork.o[2], sum(banks, []))
        blocked: list[Any] = []
        pending: list[Any] = []
        done = 0  # lanes
        for kinds, lanes in zip(_BANKS, banks, strict=True):
            bank: Any
            if kinds == (Unit.PE,):
                bank = SharedDescriptorBank(
                    self.layouts.pe,
                    len(lanes),
                    own="iact_source",
                    counts=_PE_COUNTS,
                    deep=self.config.deep_pipeline,
                )
            else:
                bank = DescriptorBank([self.layouts.descriptor(unit) for unit, _ in lanes])
            name = "_".join(unit.name.lower() for unit in kinds)
            m.submodules[name] = bank
            selected = local.payload.lanes[done : done + len(lanes)]
            done += len(lanes)
            ready, coming = self._write(m, name, bank, selected, local)
            blocked.append(selected.any() & ~ready)
            for number, (unit, i) in enumerate(lanes):
                port: Any = getattr(bank, f"desc_{number}")
                connect(m, port, flipped(getattr(self, unit.name.lower())[i]))
                pending.append(port.valid)
            under_way = under_way | coming
            pending.append(bank.waiting.any())
            if Unit.OUT_WRITER in kinds:
                m.d.comb += self.writer_pending.eq(coming | bank.waiting.any() | port.valid)
        m.d.comb += [
            local.ready.eq(~Cat(blocked).any()),
            self.moving.eq(hop.o.valid | under_way),
            self.pending.eq(self.moving | Cat(pending).any()),
        ]
        return m

    def _decode(self, m: Module, source: Any, lanes: list[tuple[Unit, int]]) -> tuple[Any, Any]:
        """Words with the lanes that they are for; high while one waits in between."""
        chosen = data.StructLayout({"lanes": len(lanes), "index": 6, "go": 1, "data": CONFIG_BITS})
        decoded: Any = stream.Signature(chosen).create(path=("decoded",))
        local: Any = stream.Signature(chosen).flip().create(path=("local",))
        word, out = source.payload, decoded.payload
        m.d.comb += [
            decoded.valid.eq(source.valid),
            source.ready.eq(decoded.ready),
            out.lanes.eq(Cat((word.unit == unit) & word.instances[i] for unit, i in lanes)),
            *(out[name].eq(word[name]) for name in ("index", "go", "data")),
        ]
        return local, connect_deep(m, self.config.deep_pipeline, "local_hop", decoded, local)

    def _write(self, m: Module, name: str, bank: Any, selected: Any, local: Any) -> tuple[Any, Any]:
        """Bring words to a bank: is there a place for the next, and does one wait in between."""
        layout = data.StructLayout(
            {"lanes": len(selected), "index": 6, "go": 1, "data": CONFIG_BITS}
        )
        offered: Any = stream.Signature(layout).create(path=(f"{name}_offered",))
        taken: Any = stream.Signature(layout).flip().create(path=(f"{name}_taken",))
        coming = connect_deep(m, self.config.deep_pipeline, f"{name}_hop", offered, taken)
        if hasattr(bank, "offer"):
            m.d.comb += bank.offer.eq(taken.valid)
        fields = ("index", "go", "data")
        word = taken.payload
        m.d.comb += [
            offered.valid.eq(local.valid & selected.any()),
            offered.payload.lanes.eq(selected),
            *(offered.payload[field].eq(local.payload[field]) for field in fields),
            taken.ready.eq(~(word.lanes & bank.waiting).any()),
            bank.select.eq(Mux(taken.valid & taken.ready, word.lanes, 0)),
            *(getattr(bank, field).eq(word[field]) for field in fields),
        ]
        return offered.ready, coming

    def _add_step(self, m: Module, hop: Any) -> None:
        """From the port to the `Hop`."""
        connect(m, flipped(self.i), hop.i)
        word: Any = self.i.payload
        step = Signal(signed(STEP_BITS), reset_less=True)
        kind = Mux(self.col == 0, Stepping.ROWS, Stepping.COLS)
        first = (self.row == 0) & (self.col == 0)
        with m.If(self.i.valid & self.i.ready & (word.unit == kind)):
            m.d.sync += step.eq(word.data)
        with m.If(word.ramp & ~first):
            m.d.comb += hop.i.payload.data.eq(word.data + step)
