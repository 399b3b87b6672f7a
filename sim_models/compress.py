"""Reference of the compressed formats: CSC of the array, RLC of activations in DRAM.

A pair is ``(count, value)``: `value` comes after `count` zeros. A run that is longer than
``max_run = 2**count_bits - 1`` is split by an explicit zero ``(max_run, 0)``, which covers
``max_run + 1`` positions. Zeros at the end of a segment have no entry. Decoders check everything
that the hardware checks; no decoder writes past the end.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = [
    "RLC_COUNT_BITS",
    "RLC_PAIRS",
    "Pair",
    "csc_expand",
    "csc_segment",
    "iact_beats",
    "iact_from_beats",
    "rlc_decode",
    "rlc_encode",
]

Pair = tuple[int, int]
#: Pairs of one 64-bit RLC word.
RLC_PAIRS = 5
#: Width of a count in an RLC word.
RLC_COUNT_BITS = 4
_RLC_PAIR_BITS = 12
_RLC_VALID_AT = 60


def csc_segment(values: Iterable[int], count_bits: int) -> list[Pair]:
    """Encode a run of values as (count, value) pairs.

    Parameters
    ----------
    values : iterable of int
        The uncompressed run.
    count_bits : int
        Width of a count; 0 gives every value a pair of its own (dense).

    Returns
    -------
    list of (count, value)
        Empty when every value is zero and `count_bits` is not 0.
    """
    if count_bits == 0:
        return [(0, int(value)) for value in values]
    max_run = (1 << count_bits) - 1
    pairs: list[Pair] = []
    run = 0
    for value in values:
        if value == 0:
            run += 1
            continue
        while run > max_run:
            pairs.append((max_run, 0))
            run -= max_run + 1
        pairs.append((run, int(value)))
        run = 0
    return pairs


def csc_expand(pairs: Iterable[Pair], length: int) -> list[int]:
    """Decode (count, value) pairs into `length` values.

    Raises
    ------
    ValueError
        A count goes past the end.
    """
    out = [0] * length
    at = 0
    for index, (count, value) in enumerate(pairs):
        at += count
        if count < 0 or at >= length:
            raise ValueError(f"pair {index}: count {count} goes past the end ({length} values)")
        out[at] = value
        at += 1
    return out


def iact_beats(values: Iterable[int], count_bits: int) -> list[tuple[Pair, Pair, bool]]:
    """Encode one segment as beats of the iact network.

    Two pairs a beat in order; an unused second half is the empty pair (0, 0). A segment without
    a non-zero is one beat of two empty pairs.

    Returns
    -------
    list of (pair 0, pair 1, last)
    """
    pairs = csc_segment(values, count_bits) or [(0, 0)]
    if len(pairs) % 2:
        pairs.append((0, 0))
    beats = len(pairs) // 2
    return [(pairs[2 * i], pairs[2 * i + 1], i == beats - 1) for i in range(beats)]


def iact_from_beats(beats: Sequence[tuple[Pair, Pair, bool]], length: int) -> list[int]:
    """Decode the beats of one segment into `length` values.

    Raises
    ------
    ValueError
        `last` is missing or early, or a count goes past the end.
    """
    for index, (_, _, last) in enumerate(beats):
        if last != (index == len(beats) - 1):
            raise ValueError(f"beat {index}: last = {last} in a segment of {len(beats)} beats")
    pairs = [pair for first, second, _ in beats for pair in (first, second)]
    while pairs and pairs[-1] == (0, 0):
        pairs.pop()
    return csc_expand(pairs, length)


def rlc_encode(values: Sequence[int] | NDArray[Any]) -> list[int]:
    """Compress a chunk of bytes into 64-bit words for DRAM.

    A word holds up to `RLC_PAIRS` pairs, pair i in bits ``[12*i +: 12]`` (value in the low eight
    as two's complement, count above), and the number of valid pairs in bits ``[60 +: 4]``. A chunk
    ends with its first word of fewer than five pairs, or when a pair says its last byte; where
    neither would happen an empty word follows. So n bytes take at most ``ceil(n / 5)`` words.

    Parameters
    ----------
    values : sequence or ndarray of int
        Bytes as -128..127 or 0..255.

    Returns
    -------
    list of int
        At least one word; nothing for an empty chunk.
    """
    if not len(values):
        return []
    pairs = csc_segment((int(value) for value in values), RLC_COUNT_BITS)
    full = len(pairs) // RLC_PAIRS
    exact = full * RLC_PAIRS == len(pairs) and values[-1] != 0
    words = []
    for index in range(full + (not exact)):
        group = pairs[index * RLC_PAIRS : (index + 1) * RLC_PAIRS]
        word = len(group) << _RLC_VALID_AT
        for i, (count, value) in enumerate(group):
            word |= (count << 8 | value & 0xFF) << (_RLC_PAIR_BITS * i)
        words.append(word)
    return words


def rlc_decode(words: Sequence[int], n_bytes: int) -> list[int]:
    """Decompress one chunk into `n_bytes` signed bytes (-128..127).

    Words after the chunk's end, as a slot in DRAM has them, are not looked at.

    Raises
    ------
    ValueError
        A word of an impossible number of pairs, a count past the end, or no end of the chunk.
    """
    out = [0] * n_bytes
    at = 0
    for index, word in enumerate(words):
        if at == n_bytes:
            return out
        valid = word >> _RLC_VALID_AT
        if valid > RLC_PAIRS:
            raise ValueError(f"RLC word {index}: {valid} valid pairs")
        for i in range(valid):
            pair = word >> (_RLC_PAIR_BITS * i)
            count, value = pair >> 8 & 0xF, pair & 0xFF
            at += count
            if at >= n_bytes:
                raise ValueError(
                    f"RLC word {index}: count {count} goes past the end ({n_bytes} values)"
                )
            out[at] = value - 256 if value > 127 else value
            at += 1
        if valid < RLC_PAIRS:
            return out
    if at < n_bytes:
        raise ValueError(f"{len(words)} RLC words have no end of the chunk of {n_bytes} bytes")
    return out
