"""Random work for the bench of `Post`, with the words it makes.

The expected words come from the formulas below, in Python integers: ``single`` from its definition,
``double`` from gemmlowp's fixedpoint.h and TFLite's MultiplyByQuantizedMultiplier, line by line.
"""

import random
from dataclasses import dataclass
from typing import Any

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import POST_LOOPS, Layouts

__all__ = ["Maker", "Pair", "Param", "Work", "multiply_double", "multiply_single"]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
Pair = tuple[int, int]
Param = dict[str, int]


# -- model --------------------------------------------------------------------------------------


def multiply_single(acc: int, multiplier: int, shift: int) -> int:
    """``(acc * M + 2^(n-1)) >> n``."""
    return (acc * multiplier + (1 << (shift - 1))) >> shift


def multiply_double(acc: int, multiplier: int, shift: int) -> int:
    """TFLite's MultiplyByQuantizedMultiplier with ``shift = 31 - n``; saturates for overflow."""
    left_shift = max(31 - shift, 0)
    right_shift = max(shift - 31, 0)
    a = _saturate(_saturate(acc) * (1 << left_shift))
    return _rounding_divide_by_pot(
        _saturating_rounding_doubling_high_mul(a, multiplier), right_shift
    )


def _saturate(x: int) -> int:
    return max(INT32_MIN, min(INT32_MAX, x))


def _saturating_rounding_doubling_high_mul(a: int, b: int) -> int:
    if a == b == INT32_MIN:
        return INT32_MAX
    ab = a * b
    nudge = (1 << 30) if ab >= 0 else 1 - (1 << 30)
    total = ab + nudge
    # C divides toward zero.
    return total // (1 << 31) if total >= 0 else -(-total // (1 << 31))


def _rounding_divide_by_pot(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


# -- random work --------------------------------------------------------------------------------


@dataclass
class Work:
    """One descriptor, what the banks hold for each of its tiles, and the words it makes."""

    fields: dict[str, Any]
    tiles: list[dict[int, list[Pair]]]
    params: list[Param] | None  # loaded before it, or the half is there from the one before
    words: list[int]


class Maker:
    """Makes random work; keeps what the parameter memory holds."""

    def __init__(self, config: Config, rng: random.Random) -> None:
        self.config = config
        self.layouts = Layouts(config)
        self.rng = rng
        self.params: list[Param] | None = None

    def work(self, *, big: bool = False, counts: list[int] | None = None) -> Work:
        """One descriptor of random shape."""
        rng, config = self.rng, self.config
        loaded = None
        if self.params is None:
            channels = config.param_depth // 2
            loaded = self.params = [self._param() for _ in range(channels)]
        low, high = rng.choice(
            [(-128, 127), (0, 255), (-128, 127), (3, 250), (-20, 100), (-512, 511)]
        )
        kind = "usual" if big else rng.choice(["usual"] * 8 + ["no tile", "empty nest"])
        loops, pool = self._loops(big)
        if kind == "empty nest":
            loops[rng.randrange(POST_LOOPS)]["count"] = 0
        base, addresses = self._place(loops)
        release = rng.random() < 0.6
        banks = {psum >> self.layouts.psum_word_bits for psum, _ in addresses}
        banks |= {bank for bank in range(config.pe_cols) if rng.random() < 0.2}
        fields: dict[str, Any] = {
            "tiles": 0 if kind == "no tile" else 1 if big else rng.randint(1, 3),
            "banks": sum(1 << bank for bank in banks),
            "psum_base": base[0],
            "param_base": base[1],
            "zero_point": rng.choice([0, -128, 127, rng.randint(-128, 127), 255]),
            "low": low,
            "high": high,
            "pool": pool,
            "sum": int(config.rounding == "single" and not big and rng.random() < 0.3),
            "release": int(release),
            "loops": loops,
        }
        tiles = [self._tile(banks) for _ in range(fields["tiles"])]
        words = self._words(fields, tiles, addresses)
        if release:
            self.params = None
        return Work(fields, tiles, loaded, words)

    def _param(self) -> Param:
        rng, bits = self.rng, self.config.psum_bits
        kind = rng.choice(["usual", "usual", "ties", "any"])
        if kind == "any":
            bias = rng.choice([INT32_MIN, INT32_MAX, rng.randint(INT32_MIN, INT32_MAX)])
            multiplier = rng.choice([0, 1, (1 << 31) - 1, rng.getrandbits(31)])
            return {"bias": bias, "multiplier": multiplier, "shift": rng.randint(1, 62)}
        multiplier = 1 << 30 if kind == "ties" else rng.randint(1 << 30, (1 << 31) - 1)
        shift = 30 + rng.randint(0, bits - 6)
        return {"bias": rng.randint(-300, 300), "multiplier": multiplier, "shift": shift}

    def _loops(self, big: bool) -> tuple[list[dict[str, int]], int]:
        """Counts and strides: a word of four, a window of one or two loops, then the rest."""
        rng = self.rng
        window = [1, 1] if big else rng.choice([[1, 1], [1, 1], [2, 2], [3, 1], [1, 5], [3, 3]])
        rest = [8, 6, 1] if big else [rng.randint(1, 3) for _ in range(3)]
        inner = rng.choice([[4, 1], [2, 2], [1, 4]])
        counts = [*inner, *window, *rest]
        counts[-1] *= 2  # whole words with `sum` too
        pool = window[0] * window[1]
        if pool == 1 and not big and rng.random() < 0.3:
            pool = counts[4]  # the windows take whole rounds of an outer loop
        psum, param = 1 << self.layouts.psum_address_bits, 1 << self.layouts.param_address_bits
        usual = self.layouts.psum_word_bits
        strides = [0, 1, 2, -1, 3, 1 << usual, -(1 << usual), psum // 2]
        loops = []
        for count in counts:
            wide = rng.random() < 0.15
            loops.append(
                {
                    "count": count,
                    "psum_stride": rng.randrange(-psum, psum) if wide else rng.choice(strides),
                    "param_stride": rng.choice([0, 0, 1, 2, -1, rng.randrange(-param, param)]),
                }
            )
        return loops, pool

    def _place(self, loops: list[dict[str, int]]) -> tuple[Pair, list[Pair]]:
        """Bases such that every address exists; strides become smaller until there are some."""
        while True:
            for _ in range(20):
                base = (
                    self.rng.randrange(1 << self.layouts.psum_address_bits),
                    self.rng.randrange(1 << self.layouts.param_address_bits),
                )
                addresses = self._walk(loops, base)
                if all(self._exists(psum, param) for psum, param in addresses):
                    return base, addresses
            loop = self.rng.choice(loops)
            loop["psum_stride"] = int(loop["psum_stride"] / 2)
            loop["param_stride"] = int(loop["param_stride"] / 2)

    def _exists(self, psum: int, param: int) -> bool:
        bank, word = divmod(psum, 1 << self.layouts.psum_word_bits)
        return (
            bank < self.config.pe_cols
            and word < self.config.glb_psum_words
            and param < self.config.param_depth // 4
        )

    def _walk(self, loops: list[dict[str, int]], base: Pair) -> list[Pair]:
        addresses = [base]
        for loop in reversed(loops):
            addresses = [
                (psum + i * loop["psum_stride"], param + i * loop["param_stride"])
                for psum, param in addresses
                for i in range(loop["count"])
            ]
        psum_mask = (1 << self.layouts.psum_address_bits) - 1
        param_mask = (1 << self.layouts.param_address_bits) - 1
        return [(psum & psum_mask, param & param_mask) for psum, param in addresses]

    def _tile(self, banks: set[int]) -> dict[int, list[Pair]]:
        rng, bits = self.rng, self.config.psum_bits

        def psum() -> int:
            edge = 1 << (bits - 1)
            if rng.random() < 0.1:
                return rng.choice([-edge, edge - 1, 0, -1])
            return rng.randrange(-edge, edge) >> rng.randrange(bits)

        words = self.config.glb_psum_words
        return {bank: [(psum(), psum()) for _ in range(words)] for bank in banks}

    def _words(
        self, fields: dict[str, Any], tiles: list[dict[int, list[Pair]]], addresses: list[Pair]
    ) -> list[int]:
        assert self.params is not None
        multiply = multiply_double if self.config.rounding == "double" else multiply_single
        values: list[int] = []
        for tile in tiles:
            for psum, channel_pair in addresses:
                bank, word = divmod(psum, 1 << self.layouts.psum_word_bits)
                pair = self.params[2 * channel_pair : 2 * channel_pair + 2]
                accs = [
                    own + param["bias"] for own, param in zip(tile[bank][word], pair, strict=True)
                ]
                factors = [param["multiplier"] for param in pair]
                if fields["sum"]:
                    shift = pair[0]["shift"]
                    total = sum(acc * factor for acc, factor in zip(accs, factors, strict=True))
                    scaled = [multiply_single(total, 1, shift)]
                else:
                    scaled = [
                        multiply(acc, factor, param["shift"])
                        for acc, factor, param in zip(accs, factors, pair, strict=True)
                    ]
                values += [
                    max(fields["low"], min(fields["high"], value + fields["zero_point"]))
                    for value in scaled
                ]
        step = 8 * fields["pool"]
        assert len(values) % step == 0
        result = []
        for start in range(0, len(values), step):
            window = values[start : start + step]
            best = [max(window[lane::8]) for lane in range(8)]
            result.append(sum((value & 0xFF) << 8 * lane for lane, value in enumerate(best)))
        return result
