"""RLC encoder and decoder on both simulators."""

import pytest

from rowmesh.rtl.codec.rlc_decoder import RlcDecoder, rlc_word_layout
from rowmesh.rtl.codec.rlc_encoder import RlcEncoder
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_rlc"


@pytest.mark.cocotb
@pytest.mark.parametrize("deep", [False, True])
def test_encoder(sim: Simulator, seed: int, deep: bool) -> None:
    tests = ["encodes", "encodes_after_reset"]
    run_bench(RlcEncoder(deep=deep), MODULE, sim=sim, seed=seed, tests=tests)


@pytest.mark.cocotb
def test_decoder(sim: Simulator, seed: int) -> None:
    run_bench(RlcDecoder(), MODULE, sim=sim, seed=seed, tests=["decodes", "finds_malformed_chunks"])


def test_word() -> None:
    layout = rlc_word_layout()
    assert layout.size == 64
    assert layout["valid"].offset == 60
    assert layout["pairs"].offset == 0
