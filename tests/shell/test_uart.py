"""Receiver and transmitter on both simulators."""

import pytest

from rowmesh.rtl.shell.baud import divisor_for
from rowmesh.rtl.shell.uart_rx import UartRx
from rowmesh.rtl.shell.uart_tx import UartTx
from rowmesh.verif.simulator import Simulator, run_bench


def _run(component: UartRx | UartTx, sim: Simulator, seed: int) -> None:
    name = {UartRx: "uart_rx", UartTx: "uart_tx"}[type(component)]
    env = {"DIVISOR": str(component.divisor)}
    run_bench(component, f"rowmesh.verif.bench_{name}", sim=sim, seed=seed, env=env)


@pytest.mark.parametrize("divisor", [4, 11])
def test_rx(sim: Simulator, seed: int, divisor: int) -> None:
    _run(UartRx(divisor), sim, seed)


def test_tx(sim: Simulator, seed: int) -> None:
    _run(UartTx(5), sim, seed)


@pytest.mark.parametrize("divisor", [3, 0, -1, 4.0, True])
@pytest.mark.parametrize("block", [UartRx, UartTx])
def test_bad_divisor(block: type[UartRx] | type[UartTx], divisor: int) -> None:
    with pytest.raises(ValueError, match="divisor = .*: must be an integer of 4 or more"):
        block(divisor)


@pytest.mark.parametrize(
    ("clock_hz", "baud", "divisor"),
    [(25_000_000, 115_200, 217), (48_000_000, 3_000_000, 16), (12_000_000, 3_000_000, 4)],
)
def test_divisor(clock_hz: int, baud: int, divisor: int) -> None:
    assert divisor_for(clock_hz, baud) == divisor


@pytest.mark.parametrize(
    ("clock_hz", "baud", "message"),
    [
        (0, 9600, "clock_hz = 0: must be positive"),
        (25_000_000, -1, "baud = -1: must be positive"),
        (12_000_000, 3_000_001, r"baud = 3e\+06: .* at most 3e\+06"),
        (25_000_000, 3_000_000, r"baud = 3e\+06: .* gives 3.125e\+06, off by 4.2%; at most 2%"),
    ],
)
def test_bad_rate(clock_hz: int, baud: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        divisor_for(clock_hz, baud)
