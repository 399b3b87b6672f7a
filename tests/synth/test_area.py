"""Area: known cells, the rule for memories, and the multiplication by instances."""

import json
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.synth.area import AreaReport, Component, measure, print_report
from rowmesh.synth.liberty import OWN_LIBERTY, read_liberty
from rowmesh.synth.published import PUBLISHED


class Gates(wiring.Component):
    """Eight of each: AND, XOR, plain flip-flop, with enable, with reset, with both."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": In(8), "en": In(1), "o": Out(8).array(6)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        plain, enabled = Signal(8, reset_less=True), Signal(8, reset_less=True)
        reset, both = Signal(8), Signal(8)
        m.d.sync += [plain.eq(self.a), reset.eq(self.b)]
        with m.If(self.en):
            m.d.sync += [enabled.eq(self.a), both.eq(self.b)]
        outputs = [self.a & self.b, self.a ^ self.b, plain, enabled, reset, both]
        m.d.comb += [port.eq(value) for port, value in zip(self.o, outputs, strict=True)]
        return m


class Store(wiring.Component):
    """A memory."""

    def __init__(self, width: int, depth: int, writes: int, clocked: bool) -> None:
        self.width, self.depth, self.writes, self.clocked = width, depth, writes, clocked
        super().__init__(
            {
                "write": In(5 + width + 1).array(writes),
                "address": In(5),
                "o": Out(width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        mem: Any = memory.Memory(shape=self.width, depth=self.depth, init=[])
        m.submodules.mem = mem
        for i in range(self.writes):
            port = mem.write_port()
            m.d.comb += [
                port.addr.eq(self.write[i][:5]),
                port.data.eq(self.write[i][5:-1]),
                port.en.eq(self.write[i][-1]),
            ]
        read = mem.read_port(domain="sync" if self.clocked else "comb")
        m.d.comb += [read.addr.eq(self.address), self.o.eq(read.data)]
        return m


class Pair(wiring.Component):
    """Two stores, apart by an inverter."""

    def __init__(self) -> None:
        super().__init__({"write": In(14), "address": In(5), "o": Out(8).array(2)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for i in range(2):
            m.submodules[f"store_{i}"] = store = Store(8, 32, 1, True)
            m.d.comb += [
                store.write[0].eq(self.write),
                store.address.eq(self.address ^ i),
                self.o[i].eq(store.o),
            ]
        return m


class Four(wiring.Component):
    """Two pairs, and so four stores."""

    def __init__(self) -> None:
        super().__init__({"write": In(14), "address": In(5), "o": Out(8).array(4)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for i in range(2):
            m.submodules[f"pair_{i}"] = pair = Pair()
            m.d.comb += [pair.write.eq(self.write), pair.address.eq(self.address)]
            m.d.comb += [self.o[2 * i + n].eq(pair.o[n]) for n in range(2)]
        return m


def by_name(components: tuple[Component, ...]) -> dict[str, Component]:
    return {component.name: component for component in components}


def test_known_cells(tmp_path: Path) -> None:
    lines: list[str] = []
    (gates,) = measure(Gates(), "gates", tmp_path, progress=lines.append)
    plain, extended = 4.33, 5.67
    # With both an enable and a reset, the reset is a gate each, and one OR for all in the enable.
    least = 8 * (1.33 + 2 + plain + 3 * extended + 1) + 1.33
    assert least <= gates.nand2 <= least + 8 * 0.4
    assert gates.flip_flops == 32
    assert (gates.instances, gates.part_of) == (1, ())
    assert any("gates of gates (1 of 1)" in line for line in lines)


def test_other_liberty(tmp_path: Path) -> None:
    """Areas are relative to the library's NAND2, whatever its unit."""
    library = read_liberty(OWN_LIBERTY)
    text = OWN_LIBERTY.read_text(encoding="utf-8")
    for area in sorted(set(library.areas.values())):
        text = text.replace(f"area : {area:.2f};", f"area : {area * 2.5:.4f};")
    other = tmp_path / "other.lib"
    other.write_text(text, encoding="utf-8")
    assert read_liberty(other).nand2 == pytest.approx(2.5)
    (own,) = measure(Gates(), "gates", tmp_path / "own")
    (scaled,) = measure(Gates(), "gates", tmp_path / "scaled", liberty=other)
    # Other libraries are not known to have a synchronous reset: plain flip-flops and gates instead.
    assert scaled.flip_flops == own.flip_flops
    assert own.nand2 - 8 * 1.35 <= scaled.nand2 <= own.nand2 + 8 * 0.35


@pytest.mark.parametrize(
    ("width", "depth", "writes", "clocked", "spad", "sram", "flip_flops"),
    [
        (8, 32, 1, False, 256, 0, 0),
        (8, 32, 1, True, 0, 256, 0),
        (8, 32, 2, False, 256, 0, 0),
        (8, 31, 1, False, 0, 0, 248),
        (8, 31, 1, True, 0, 0, 256),  # and the read port's register
        (8, 32, 3, False, 0, 0, 256),
    ],
)
def test_memory_rule(
    tmp_path: Path,
    width: int,
    depth: int,
    writes: int,
    clocked: bool,
    spad: int,
    sram: int,
    flip_flops: int,
) -> None:
    (store,) = measure(Store(width, depth, writes, clocked), "store", tmp_path)
    assert (store.spad_bits, store.sram_bits, store.flip_flops) == (spad, sram, flip_flops)
    assert store.nand2 >= 5.67 * flip_flops


def test_counts_instances(tmp_path: Path) -> None:
    components = measure(Four(), "four", tmp_path)
    found = by_name(components)
    assert {name: c.instances for name, c in found.items()} == {"four": 1, "pair": 2, "store": 4}
    assert found["store"].part_of == ("pair",)
    # The one inverter of each pair.
    assert found["pair"].nand2 == 0.67
    assert found["four"].nand2_with_parts == pytest.approx(2 * 0.67)
    whole = AreaReport(name="x", liberty="cells.lib", components=components, seconds=0.0)
    assert whole.nand2 == pytest.approx(2 * 0.67)
    assert (whole.sram_bits, whole.spad_bits) == (4 * 256, 0)
    assert json.loads(whole.to_json())["total"]["sram_bits"] == 1024


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    pe = Component(
        name="pe",
        part_of=("cluster",),
        instances=192,
        nand2=1000.0,
        nand2_with_parts=1500.0,
        flip_flops=10,
        spad_bits=3000,
        sram_bits=0,
    )
    report = AreaReport(name="eyeriss_v2", liberty="x.lib", components=(pe,), seconds=1.0)
    print_report(report)
    text = capsys.readouterr().out
    for figure in ("pe", "192", "1,500", "192,000", "576,000", "192 kNAND2 here", "2,695 kNAND2"):
        assert figure in text
    assert json.loads(report.to_json())["published"]["logic_nand2"] == 2_695_000


def test_published(shared: Path) -> None:
    chip = json.loads((shared / "published" / "eyeriss_v2.json").read_text())["chip"]
    assert PUBLISHED["eyeriss_v2"].logic_nand2 == 1000 * chip["logic_kgates_nand2"]
    assert PUBLISHED["eyeriss_v2"].memory_kib == chip["sram_kib"]


@pytest.mark.parametrize(
    "function", ["(A*B)'", "!(A & B)", "(!A) | (!B)", "(!A1&A2)", "!(A1 & A1)", "(A+B)'", "A'+B'"]
)
def test_liberty_nand2(tmp_path: Path, function: str) -> None:
    path = tmp_path / "one.lib"
    path.write_text(
        'library (l) { cell ("N") { area : 0.8; pin(A) { direction : input; }\n'
        f'pin(Y) {{ direction : output; function : "{function}"; }} }} }}',
        encoding="utf-8",
    )
    if function in ("(!A1&A2)", "!(A1 & A1)", "(A+B)'"):
        with pytest.raises(ValueError, match="no two-input NAND"):
            read_liberty(path)
    else:
        assert read_liberty(path).nand2 == 0.8


def test_liberty_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.lib"):
        read_liberty(tmp_path / "no.lib")


def test_yosys_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOSYS", "/bin/false")
    with pytest.raises(RuntimeError, match="false failed"):
        measure(Gates(), "gates", tmp_path)
