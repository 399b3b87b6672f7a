"""Everything between the serial line and the buses, on both simulators."""

from rowmesh.rtl.shell.host_link import HostLink
from rowmesh.verif.simulator import Simulator, run_bench

# A clock so slow that a tenth of a second is a few thousand cycles.
CLOCK_HZ = 10_000


def test_host_link(sim: Simulator, seed: int) -> None:
    divisor = 4
    link = HostLink(256, clock_hz=CLOCK_HZ, baud=CLOCK_HZ // divisor, memory_bytes=8192)
    assert link.divisor == divisor
    env = {"DIVISOR": str(divisor), "CLOCK_HZ": str(CLOCK_HZ)}
    run_bench(link, "rowmesh.verif.bench_host_link", sim=sim, seed=seed, env=env)
