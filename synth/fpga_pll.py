"""Settings of the ECP5's PLL (Lattice FPGA-TN-02200, section 18; limits as in Project Trellis)."""

from collections.abc import Iterator
from dataclasses import dataclass

from rowmesh.gen.errors import RowmeshError

__all__ = ["Pll", "find_pll"]

#: Limits of the phase detector and of the oscillator, Hz, and of all dividers.
_PFD = (3.125e6, 400e6)
_VCO = (400e6, 800e6)
_MOST = 128
#: A clock further off than this is refused.
_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Pll:
    """Dividers for a clock.

    Parameters
    ----------
    input_hz : int
        Clock that goes in.
    input_divider, output_divider : int
        1 to 128; of the input, and from the oscillator to the clock.
    feedback_divider, second_divider : int
        1 to 128; from the oscillator through a second output back to the input.
    """

    input_hz: int
    input_divider: int
    feedback_divider: int
    second_divider: int
    output_divider: int

    @property
    def vco_hz(self) -> float:
        """Frequency of the oscillator."""
        return self.input_hz * self.feedback_divider * self.second_divider / self.input_divider

    @property
    def clock_hz(self) -> float:
        """Clock that comes out."""
        return self.vco_hz / self.output_divider

    def parameters(self) -> dict[str, str | int]:
        """Parameters of an EHXPLLL with its output CLKOS fed back inside."""
        return {
            "CLKI_DIV": self.input_divider,
            "CLKFB_DIV": self.feedback_divider,
            "CLKOP_DIV": self.output_divider,
            "CLKOP_CPHASE": self.output_divider - 1,
            "CLKOP_ENABLE": "ENABLED",
            "CLKOS_DIV": self.second_divider,
            "CLKOS_CPHASE": self.second_divider - 1,
            "CLKOS_ENABLE": "ENABLED",
            "FEEDBK_PATH": "INT_OS",
            "PLLRST_ENA": "DISABLED",
            "STDBY_ENABLE": "DISABLED",
            "INTFB_WAKE": "DISABLED",
            "DPHASE_SOURCE": "DISABLED",
            "OUTDIVIDER_MUXA": "DIVA",
        }


def find_pll(input_hz: int, wanted_hz: float) -> Pll:
    """Dividers for the clock nearest to a wanted one, with the fastest oscillator.

    Raises
    ------
    RowmeshError
        None is within 1 % of it.
    """
    found = [pll for pll in _settings(input_hz, wanted_hz) if _VCO[0] <= pll.vco_hz <= _VCO[1]]
    best = min(found, key=lambda pll: (abs(pll.clock_hz - wanted_hz), -pll.vco_hz), default=None)
    if best is None or abs(best.clock_hz - wanted_hz) > _TOLERANCE * wanted_hz:
        raise RowmeshError(
            f"frequency {wanted_hz / 1e6:g} MHz: the PLL cannot make it of {input_hz / 1e6:g} MHz"
        )
    return best


def _settings(input_hz: int, wanted_hz: float) -> Iterator[Pll]:
    """The nearest one for all dividers of the input and of the output."""
    for divider in range(1, _MOST + 1):
        if not _PFD[0] <= input_hz / divider <= _PFD[1]:
            continue
        for output in range(1, _MOST + 1):
            product = max(1, round(wanted_hz * output * divider / input_hz))
            # The second output is no faster than half the oscillator.
            second = next((n for n in range(2, _MOST + 1) if product % n == 0), None)
            if second is not None and product // second <= _MOST:
                yield Pll(
                    input_hz=input_hz,
                    input_divider=divider,
                    feedback_divider=product // second,
                    second_divider=second,
                    output_divider=output,
                )
