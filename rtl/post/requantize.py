"""From a partial sum to a clamped output value: one lane of the post-processing."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import BIAS_BITS, MULTIPLIER_BITS, SHIFT_BITS, Layouts

__all__ = ["VALUE_BITS", "Requantize", "requantize_latency"]

#: Width of the zero point, of the limits and of a clamped value.
VALUE_BITS = 10
#: Bits of a rounded product that decide the clamped value: any more are past both limits.
KEEP_BITS = VALUE_BITS + 1


def requantize_latency(config: Config) -> int:
    """Stages of `Requantize`.

    [Sum], (left shift), [two products], product, (high), [sum of products], right shift, clamp; in
    round brackets: those of double rounding only; in square ones: those of `deep_pipeline`, the
    last of them of single rounding.
    """
    if config.rounding == "double":
        return 7 if config.deep_pipeline else 5
    return 6 if config.deep_pipeline else 3


class Requantize(wiring.Component):
    """``clamp(zero_point + requantize(psum + bias))``, one a cycle, exact.

    ``single``: ``(acc * M + addend + 2^(n-1)) >> n``. ``double``: gemmlowp's saturating rounding
    doubling high multiply, then the rounding divide by ``2^(n - 31)``, as TFLite's
    ``MultiplyByQuantizedMultiplier``; for ``n < 31`` acc is first shifted left by ``31 - n``.
    TFLite leaves an int32 overflow of acc or of that shift undefined; here both saturate.

    Parameters
    ----------
    config
        `psum_bits` and `rounding` are read.
    adds : bool
        Whether there is an addend (single rounding only).

    Attributes
    ----------
    enable : In(1)
        All stages move.
    psum : In(signed), param : In(param)
        One sum and its channel's parameters (`shift` n in 1..62), together.
    zero_point, low, high : In(signed(10))
        Constant while anything is in the pipeline.
    product : Out(signed), addend : In(signed)
        Single rounding only. ``acc * M`` of the values that are at that stage, and with `adds`
        what is added to it: zero, or the `product` of another lane, which has the same `shift`.
    value : Out(signed(10))
        The result, from a register.

    Notes
    -----
    Latency `latency` cycles of `enable`: few long stages, because registers are large, and at
    200 MHz a cycle has time for a sum and its product; `config.deep_pipeline` has more of them,
    with products that two multipliers of an FPGA make. Rounding needs no wide adder: half an ulp is
    added by adding the bit below. The right shift keeps only what can lie between the limits; what
    it drops on the left says whether the value is past one of them.
    """

    def __init__(self, config: Config, *, adds: bool = False) -> None:
        self.adds = adds
        self.double = config.rounding == "double"
        self.deep = config.deep_pipeline
        self.psum_bits = config.psum_bits
        self.latency = requantize_latency(config)
        value = signed(VALUE_BITS)
        acc_bits = max(config.psum_bits, BIAS_BITS) + 1
        members: dict[str, Any] = {
            "enable": In(1),
            "psum": In(signed(config.psum_bits)),
            "param": In(Layouts(config).param),
            "zero_point": In(value),
            "low": In(value),
            "high": In(value),
            "value": Out(value),
        }
        if not self.double:
            members["product"] = Out(signed(acc_bits + MULTIPLIER_BITS))
        if adds:
            members["addend"] = In(signed(acc_bits + MULTIPLIER_BITS))
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        param: Any = self.param
        acc: Any = self.psum + param.bias
        multiplier, shift = param.multiplier, param.shift
        if self.deep:
            acc = self._stage(m, "sum", acc)
            multiplier = self._stage(m, "sum_multiplier", multiplier)
            shift = self._stage(m, "sum_shift", shift)
        if self.double:
            acc, multiplier, shift = self._shift_left(m, acc, multiplier, shift)
        product, shift = self._multiply(m, acc, multiplier, shift)
        if not self.double:
            m.d.comb += self.product.eq(product)
        if self.adds:
            product = product + self.addend
        if self.deep and not self.double:
            product = self._stage(m, "total", product)
            shift = self._stage(m, "total_shift", shift)
        y, low_bits, past, negative = self._round(m, product, shift)

        # The last bit of y is worth one half.
        half = y[0] & (~negative | low_bits) if self.double else y[0]
        total = y[1:].as_signed() + self.zero_point + half
        is_low = Mux(past, negative, total < self.low)
        is_high = Mux(past, ~negative, total > self.high)
        clamped = Mux(is_low, self.low, Mux(is_high, self.high, total))
        with m.If(self.enable):
            m.d.sync += self.value.eq(clamped)
        return m

    def _stage(self, m: Module, name: str, value: Any) -> Any:
        """A pipeline register."""
        register = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.enable):
            m.d.sync += register.eq(value)
        return register

    def _multiply(self, m: Module, acc: Any, multiplier: Any, shift: Any) -> tuple[Any, Any]:
        """The product in a register, and the shift beside it."""
        product = acc * multiplier
        if self.deep:
            half = MULTIPLIER_BITS // 2
            low = self._stage(m, "low_product", acc * multiplier[:half])
            high = self._stage(m, "high_part", acc * multiplier[half:])
            shift = self._stage(m, "parts_shift", shift)
            whole = Signal(product.shape())
            m.d.comb += whole.eq(low + (high << half))
            product = whole
        return self._stage(m, "product", product), self._stage(m, "product_shift", shift)

    def _shift_left(self, m: Module, acc: Any, multiplier: Any, shift: Any) -> tuple[Any, Any, Any]:
        """Shift acc left by 31 - n, saturating at int32; the right shift n - 31 remains."""
        left = Signal(5)
        m.d.comb += left.eq(Mux(shift < 31, ~shift[:5], 0))  # 31 - n, of five bits
        negative = acc[-1]
        value: Any = acc[:BIAS_BITS].as_signed()
        past: Any = acc[-1] != acc[-2]
        for bit in reversed(range(5)):
            step = 1 << bit
            top = value[-step - 1 :]
            past = past | left[bit] & ~((top == 0) | top.all())
            moved = Cat(Const(0, step), value[:-step]).as_signed()
            level = Signal(signed(BIAS_BITS), name=f"left_{step}")
            m.d.comb += level.eq(Mux(left[bit], moved, value))
            value = level
        limit = Cat((~negative).replicate(BIAS_BITS - 1), negative).as_signed()
        right = Mux(shift < 31, 0, (shift - 31)[:SHIFT_BITS])
        return (
            self._stage(m, "acc", Mux(past, limit, value)),
            self._stage(m, "acc_multiplier", multiplier),
            self._stage(m, "acc_right", right),
        )

    def _round(self, m: Module, product: Any, shift: Any) -> tuple[Any, Any, Any, Any]:
        """The result with one bit below the point, whether any bit was below that, past, sign."""
        if self.double:
            high = product[31:].as_signed() + product[30]
            x: Any = Cat(Const(0, 1), self._stage(m, "high_product", high)).as_signed()
            right = self._stage(m, "high_right", shift)
        else:
            x, right = product, (shift - 1)[:SHIFT_BITS]
        sticky: Any = Const(0, 1)
        past: Any = Const(0, 1)
        negative = x[-1]
        for bit in reversed(range(SHIFT_BITS)):
            x, sticky, past = self._shift_right(m, x, bit, right[bit], sticky, past)
        return (
            self._stage(m, "shifted", x),
            self._stage(m, "shifted_sticky", sticky),
            self._stage(m, "shifted_past", past),
            self._stage(m, "shifted_negative", negative),
        )

    def _shift_right(
        self, m: Module, x: Any, bit: int, move: Any, sticky: Any, past: Any
    ) -> tuple[Any, Any, Any]:
        """One level, which drops the bits on the left that no later level can bring in."""
        step = 1 << bit
        width = min(len(x), KEEP_BITS + step)
        padded = Cat(x, x[-1].replicate(max(0, width + step - len(x))))
        level = Signal(signed(width), name=f"right_{step}")
        m.d.comb += level.eq(Mux(move, padded[step : step + width], padded[:width]))
        kept, moved = x[width - 1 :], padded[step + width - 1 :]
        lost = Mux(move, ~((moved == 0) | moved.all()), ~((kept == 0) | kept.all()))
        below = move & x[:step].any() if self.double else Const(0, 1)
        return level, sticky | below, past | lost
