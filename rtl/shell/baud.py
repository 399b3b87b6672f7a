"""Clock cycles of a bit on the serial line."""

__all__ = ["DEFAULT_BAUD", "MIN_DIVISOR", "check_divisor", "divisor_for"]

#: Bits a second where nothing else is asked for: what LiteX's host tools take, too.
DEFAULT_BAUD = 115_200
#: Fewer cycles leave no middle of a bit to sample, behind a synchronizer.
MIN_DIVISOR = 4
#: Part of the baud rate by which a line may be off: half a bit in a frame of ten is 5 %, and the
#: other side has an error of its own.
_TOLERANCE = 0.02


def check_divisor(divisor: int) -> int:
    """The divisor, if it is one.

    Raises
    ------
    ValueError
        It is not an integer of `MIN_DIVISOR` or more.
    """
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < MIN_DIVISOR:
        raise ValueError(f"divisor = {divisor!r}: must be an integer of {MIN_DIVISOR} or more")
    return divisor


def divisor_for(clock_hz: float, baud: float) -> int:
    """Clock cycles of a bit.

    Parameters
    ----------
    clock_hz, baud : float
        Clock cycles and bits a second.

    Raises
    ------
    ValueError
        Names the field, its value and the limit: the clock is too slow for the baud rate, or
        the nearest divisor is off by more than 2 %.
    """
    for name, value in (("clock_hz", clock_hz), ("baud", baud)):
        if not value > 0:
            raise ValueError(f"{name} = {value!r}: must be positive")
    most = clock_hz / MIN_DIVISOR
    if baud > most:
        raise ValueError(
            f"baud = {baud:g}: a clock of {clock_hz:g} Hz allows at most {most:g} "
            f"({MIN_DIVISOR} cycles a bit)"
        )
    divisor = round(clock_hz / baud)
    error = abs(clock_hz / divisor - baud) / baud
    if error > _TOLERANCE:
        raise ValueError(
            f"baud = {baud:g}: a clock of {clock_hz:g} Hz gives {clock_hz / divisor:g}, "
            f"off by {error:.1%}; at most {_TOLERANCE:.0%} is allowed"
        )
    return divisor
