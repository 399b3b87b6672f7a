"""Post-processing on both simulators, and the formulas that its bench takes for granted."""

import dataclasses
from typing import Any

import pytest

from rowmesh.rtl.config import PRESETS, Config
from rowmesh.rtl.post.post import Post
from rowmesh.rtl.post.requantize import requantize_latency
from rowmesh.verif.post_work import multiply_double, multiply_single
from rowmesh.verif.simulator import Simulator, run_bench

CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "double": {"rounding": "double"},
    "three_columns": {
        "pe_cols": 3,
        "psum_bits": 20,
        "glb_psum_count": 200,
        "param_depth": 20,
        "deep_pipeline": True,
    },
    "one_column_double": {
        "pe_cols": 1,
        "psum_bits": 32,
        "rounding": "double",
        "param_depth": 16,
        "deep_pipeline": True,
    },
}


@pytest.mark.cocotb
@pytest.mark.parametrize("name", CONFIGS)
def test_post(sim: Simulator, seed: int, name: str) -> None:
    config = dataclasses.replace(PRESETS["tiny"](), **CONFIGS[name])
    run_bench(Post(config), "rowmesh.verif.bench_post", sim=sim, seed=seed, config=config)


def test_latency() -> None:
    assert requantize_latency(Config()) == 3
    assert requantize_latency(Config(rounding="double")) == 5
    assert requantize_latency(Config(deep_pipeline=True)) == 6
    assert requantize_latency(Config(rounding="double", deep_pipeline=True)) == 7


@pytest.mark.parametrize(
    ("acc", "multiplier", "shift", "single", "double"),
    [
        # 5/2 and -5/2: half up against half away from zero (n = 31 + right shift).
        (5, 1 << 30, 31, 3, 3),
        (-5, 1 << 30, 31, -2, -2),
        (10, 1 << 30, 32, 3, 3),
        (-10, 1 << 30, 32, -2, -3),
        # 0.75; 0.1875.
        (3, 1 << 30, 32, 1, 1),
        (1, 3 << 29, 33, 0, 0),
        # 0.46875 rounds to 0 at once; 1.875 first rounds to 2, and 2/4 to 1.
        (15, 1 << 28, 33, 0, 1),
        # A left shift by 30 that overflows int32.
        (4, 1 << 30, 1, 1 << 31, 1 << 30),
    ],
)
def test_formulas(acc: int, multiplier: int, shift: int, single: int, double: int) -> None:
    assert multiply_single(acc, multiplier, shift) == single
    assert multiply_double(acc, multiplier, shift) == double
