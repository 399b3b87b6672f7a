"""`GlbCluster`: its iact banks with their readers, and its psum banks, on both simulators."""

import pytest

from rowmesh.rtl.config import Config
from rowmesh.rtl.glb.glb_cluster import GlbCluster
from rowmesh.verif.simulator import Simulator, run_bench

#: Sizes that are no powers of two, every width of a count, narrow values, one of everything.
CONFIGS = {
    "default": Config(glb_iact_banks=2, pe_cols=2, glb_iact_bytes=768, glb_psum_count=200),
    "one": Config(
        glb_iact_banks=1,
        pe_cols=1,
        glb_iact_bytes=512,
        glb_psum_count=64,
        count_bits=1,
        iact_bits=6,
        weight_bits=6,
        psum_bits=16,
    ),
    "dense": Config(
        glb_iact_banks=1, pe_cols=1, glb_iact_bytes=512, glb_psum_count=64, sparse=False
    ),
    "wide": Config(
        glb_iact_banks=1,
        pe_cols=1,
        glb_iact_bytes=1024,
        glb_psum_count=128,
        count_bits=8,
        psum_bits=32,
        deep_pipeline=True,
    ),
}


@pytest.mark.cocotb
@pytest.mark.parametrize("half", ["iact", "psum"])
@pytest.mark.parametrize("name", CONFIGS)
def test_glb_cluster(sim: Simulator, seed: int, name: str, half: str) -> None:
    config = CONFIGS[name]
    run_bench(
        GlbCluster(config), f"rowmesh.verif.bench_glb_{half}", sim=sim, seed=seed, config=config
    )
