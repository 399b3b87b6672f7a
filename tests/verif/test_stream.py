"""The stream agents and the bench runner, on both simulators."""

import random
from functools import partial
from typing import Any

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.noc.hop import Hop
from rowmesh.rtl.noc.queue import Queue
from rowmesh.rtl.noc.stage import Stage
from rowmesh.verif.fields import pack, unpack
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_stream"


class Fickle(wiring.Component):
    """Breaks the stream rules: the payload counts on although valid and not taken."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(1)]
        m.d.sync += self.o.payload.eq(self.o.payload + 1)
        return m


@pytest.mark.parametrize(
    ("register", "width"),
    [
        (Hop, 1),
        (Hop, 24),
        (Hop, 100),
        (partial(Hop, eager=True), 24),
        (Stage, 24),
        (Queue, 24),
    ],
)
def test_register_passes(sim: Simulator, seed: int, register: Any, width: int) -> None:
    tests = ["passes_unchanged"] + (["full_throughput", "reset_in_between"] if width > 8 else [])
    run_bench(register(width), MODULE, sim=sim, seed=seed, tests=tests)


def test_wrong_expectation_fails(sim: Simulator, seed: int) -> None:
    with pytest.raises(AssertionError, match="passes_unchanged") as caught:
        run_bench(Hop(24), MODULE, sim=sim, seed=seed, env={"BENCH_STREAM_FAULT": "1"})
    message = str(caught.value)
    assert "beat 100 of 300 differs" in message
    assert f"make sim SIM={sim} SEED={seed}" in message
    assert "full_throughput" not in message.splitlines()[0]


def test_broken_protocol_fails(sim: Simulator, seed: int) -> None:
    with pytest.raises(AssertionError, match="payload changed before the transfer"):
        run_bench(Fickle(), MODULE, sim=sim, seed=seed, tests=["keeps_protocol"])


def test_no_test_fails(sim: Simulator, seed: int) -> None:
    with pytest.raises(AssertionError, match="no cocotb test ran"):
        run_bench(Hop(24), MODULE, sim=sim, seed=seed, tests=["missing"])


def test_missing_module_fails(sim: Simulator, seed: int) -> None:
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        run_bench(Hop(24), "rowmesh.verif.bench_nothing", sim=sim, seed=seed)


def test_unknown_simulator() -> None:
    with pytest.raises(ValueError, match="must be 'verilator' or 'icarus'"):
        run_bench(Hop(24), MODULE, sim="vcs", seed=1)  # type: ignore[arg-type]


class Kind(enum.Enum, shape=2):
    A = 0
    B = 2


LAYOUT = data.StructLayout(
    {
        "count": 4,
        "value": signed(8),
        "kind": Kind,
        "pairs": data.ArrayLayout(data.StructLayout({"a": 3, "b": signed(3)}), 2),
    }
)


def test_pack() -> None:
    fields = {"count": 9, "value": -3, "pairs": [{"a": 1, "b": -4}, {"a": 7, "b": 3}]}
    bits = pack(LAYOUT, fields)
    assert bits == 9 | 0xFD << 4 | (1 | 4 << 3) << 14 | (7 | 3 << 3) << 20
    assert unpack(LAYOUT, bits) == {"kind": 0, **fields}
    assert bits == LAYOUT.const(fields).as_value().value
    assert pack({"a": 4, "b": 2}, {"b": 3}) == 0x30


@pytest.mark.parametrize("seed", [1, 2])
def test_pack_inverts_unpack(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        bits = rng.getrandbits(LAYOUT.size)
        assert pack(LAYOUT, unpack(LAYOUT, bits)) == bits


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 16}, "16 does not fit"),
        ({"value": 128}, "128 does not fit"),
        ({"value": -129}, "-129 does not fit"),
        ({"nothing": 1}, "no field 'nothing'"),
        (1 << 26, "does not fit 26 bits"),
        ({"count": {}}, "must be an integer"),
    ],
)
def test_pack_refuses(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(LAYOUT, fields)
