"""Settings of the ECP5's PLL (Lattice FPGA-TN-02200, section 18; limits as in Project Trellis)."""

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
    input_divider, feedback_divider, output_divider : int
        1 to 128; the output is fed back.
    """

    input_hz: int
    input_divider: int
    feedback_divider: int
    output_divider: int

    @property
    def clock_hz(self) -> float:
        """Clock that comes out."""
        return self.input_hz * self.feedback_divider / self.input_divider

    def parameters(self) -> dict[str, str | int]:
        """Parameters of an EHXPLLL with its output CLKOP fed back."""
        return {
            "CLKI_DIV": self.input_divider,
            "CLKFB_DIV": self.feedback_divider,
            "CLKOP_DIV": self.output_divider,
            "CLKOP_CPHASE": self.output_divider - 1,
            "CLKOP_ENABLE": "ENABLED",
            "FEEDBK_PATH": "CLKOP",
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
    best: tuple[float, float, Pll] | None = None
    for divider in range(1, _MOST + 1):
        if not _PFD[0] <= input_hz / divider <= _PFD[1]:
            continue
        feedback = round(wanted_hz * divider / input_hz)
        if not 1 <= feedback <= _MOST:
            continue
        output = min(_MOST, int(_VCO[1] * divider / (input_hz * feedback)))
        if output < 1:
            continue
        pll = Pll(
            input_hz=input_hz,
            input_divider=divider,
            feedback_divider=feedback,
            output_divider=output,
        )
        vco = pll.clock_hz * output
        rank = (abs(pll.clock_hz - wanted_hz), -vco, pll)
        if _VCO[0] <= vco <= _VCO[1] and (best is None or rank[:2] < best[:2]):
            best = rank
    if best is None or best[0] > _TOLERANCE * wanted_hz:
        raise RowmeshError(
            f"frequency {wanted_hz / 1e6:g} MHz: the PLL cannot make it of {input_hz / 1e6:g} MHz"
        )
    return best[2]
