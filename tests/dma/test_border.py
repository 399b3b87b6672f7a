"""`Border`, for all small lengths."""

from itertools import product

from amaranth.sim import Simulator, SimulatorContext

from rowmesh.rtl.dma.border import Border

ROUNDS = 2


def test_border() -> None:
    """Steps of all three parts in order, again and again; empty parts have none."""
    dut = Border(border_bits=2, body_bits=3)

    async def bench(ctx: SimulatorContext) -> None:
        for before, body, after in product(range(4), range(8), range(4)):
            for port, length in ((dut.before, before), (dut.body, body), (dut.after, after)):
                ctx.set(port, length)
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            inside = [0] * before + [1] * body + [0] * after
            assert ctx.get(dut.empty) == (not inside)
            for _ in range(ROUNDS):
                for number, expected in enumerate(inside, start=1):
                    where = f"step {number} of {before} + {body} + {after}"
                    assert ctx.get(dut.inside) == expected, where
                    assert ctx.get(dut.ends) == (number == len(inside)), where
                    ctx.set(dut.step, 1)
                    await ctx.tick()
                    ctx.set(dut.step, 0)
                    if number == 1:
                        await ctx.tick()  # nothing moves without a step

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
