"""`CscEncoder` on both simulators."""

import pytest

from rowmesh.rtl.codec.csc_encoder import CscEncoder, csc_beat
from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.verif.simulator import Simulator, run_bench

MODULE = "rowmesh.verif.bench_csc_encoder"


@pytest.mark.cocotb
@pytest.mark.parametrize(
    ("value_bits", "count_bits", "word_bytes", "deep"),
    [
        (8, 0, 8, False),
        (8, 1, 8, False),
        (8, 4, 8, False),
        (8, 8, 8, False),
        (5, 2, 4, False),
        (8, 0, 8, True),
        (8, 4, 8, True),
        (5, 2, 4, True),
    ],
)
def test_csc_encoder(
    sim: Simulator, seed: int, value_bits: int, count_bits: int, word_bytes: int, deep: bool
) -> None:
    parameters = (value_bits, count_bits, word_bytes)
    run_bench(
        CscEncoder(*parameters, deep=deep),
        MODULE,
        sim=sim,
        seed=seed,
        env={"BENCH_CSC": " ".join(map(str, parameters))},
    )


@pytest.mark.parametrize("sparse", [True, False])
def test_beats_are_those_of_the_network(sparse: bool) -> None:
    config = Config(sparse=sparse)
    assert csc_beat(config.iact_bits, config.csc_count_bits) == Layouts(config).iact_beat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9, 4), "value_bits = 9: must be within 1..8"),
        ((8, 4, 6), "word_bytes = 6: must be a power of two"),
        ((8, 4, 8, 4), "run_bits = 4: must be 5 or more"),
        ((8, -1), "count_bits = -1: must be 0 or more"),
    ],
)
def test_csc_encoder_refuses(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CscEncoder(*arguments)
