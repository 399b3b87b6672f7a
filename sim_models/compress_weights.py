"""Reference of the weight block: CSC columns as they travel to a PE's weight SPads.

A block in the stream::

    1 word        length L: number of words that follow
    A words       addresses, ``weight_addrs_per_word`` a word, entry 0 in the low bits (sparse)
    L - A words   data, ``macs_per_pe`` pairs a word, pair 0 in the low bits

Address entry k is the END of column k, in data words from the start of the data. Inside a pair the
value is in the low ``weight_bits`` (two's complement), the count above it. The last word of a
column is filled with empty pairs (0, 0). A dense block has no addresses: each column is
``ceil(M0 / macs_per_pe)`` words of values.
"""

from collections.abc import Sequence

from rowmesh.rtl.config import Config
from rowmesh.sim_models.compress import Pair, csc_expand, csc_segment

__all__ = ["decode_weight_block", "weight_block", "weight_block_data_words"]


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _column_words(column: Sequence[int], config: Config, dense: bool) -> list[int]:
    """Data words of one column."""
    pairs = csc_segment(column, 0 if dense else config.csc_count_bits)
    pair_bits = config.weight_bits if dense else config.weight_pair_bits
    mask = (1 << config.weight_bits) - 1
    words = []
    for start in range(0, len(pairs), config.macs_per_pe):
        word = 0
        for i, (count, value) in enumerate(pairs[start : start + config.macs_per_pe]):
            word |= (count << config.weight_bits | value & mask) << (pair_bits * i)
        words.append(word)
    return words


def weight_block_data_words(matrix: Sequence[Sequence[int]], config: Config) -> int:
    """Data words that a sparse block of `matrix` ([K][M0]) takes in the weight data SPad."""
    return sum(len(_column_words(column, config, False)) for column in matrix)


def weight_block(
    matrix: Sequence[Sequence[int]], config: Config, *, dense: bool = False
) -> list[int]:
    """Encode a block of weights.

    Parameters
    ----------
    matrix : K columns of M0 values
        ``matrix[k][m]`` is the weight from iact k to output m.
    config : Config
        Widths.
    dense : bool
        Values only, no counts and no addresses.

    Returns
    -------
    list of int
        The stream words, the length word first.

    Raises
    ------
    ValueError
        Columns of different lengths, a value that does not fit ``weight_bits``, or an address or
        a length that does not fit its field.
    """
    heights = {len(column) for column in matrix}
    if len(heights) > 1:
        raise ValueError(f"weight columns of different lengths: {sorted(heights)}")
    half = 1 << (config.weight_bits - 1)
    for k, column in enumerate(matrix):
        for value in column:
            if not -half <= value < half:
                raise ValueError(f"column {k}: weight {value} does not fit {config.weight_bits} b")
    data: list[int] = []
    ends: list[int] = []
    for column in matrix:
        data += _column_words(column, config, dense)
        ends.append(len(data))
    addresses: list[int] = []
    if not dense:
        if ends and ends[-1] >> config.weight_addr_bits:
            raise ValueError(
                f"{ends[-1]} data words do not fit an address of {config.weight_addr_bits} bits"
            )
        per_word = config.weight_addrs_per_word
        for start in range(0, len(ends), per_word):
            word = 0
            for i, end in enumerate(ends[start : start + per_word]):
                word |= end << (config.weight_addr_bits * i)
            addresses.append(word)
    length = len(addresses) + len(data)
    word_bits = config.weight_dense_word_bits if dense else config.weight_word_bits
    if length >> word_bits:
        raise ValueError(f"block length {length} does not fit a word of {word_bits} bits")
    return [length, *addresses, *data]


def _unpack(word: int, config: Config, dense: bool) -> list[Pair]:
    pair_bits = config.weight_bits if dense else config.weight_pair_bits
    half = 1 << (config.weight_bits - 1)
    pairs = []
    for i in range(config.macs_per_pe):
        pair = word >> (pair_bits * i) & ((1 << pair_bits) - 1)
        raw = pair & (2 * half - 1)
        pairs.append((pair >> config.weight_bits, raw - 2 * half if raw >= half else raw))
    return pairs


def decode_weight_block(
    words: Sequence[int], k: int, m0: int, config: Config, *, dense: bool = False
) -> list[list[int]]:
    """Decode and check a block.

    Parameters
    ----------
    words : sequence of int
        The stream words, the length word first.
    k, m0 : int
        Columns and values a column.

    Returns
    -------
    list of k lists of m0 int

    Raises
    ------
    ValueError
        A wrong length, an address that is not monotonic or goes past the end, data after the
        last column, a count past the column's end, or a dense column with data past its end.
    """
    if not words or words[0] != len(words) - 1:
        told = words[0] if words else "no length"
        raise ValueError(f"block of {len(words)} words says {told}")
    n_addr = 0 if dense else _ceil_div(k, config.weight_addrs_per_word)
    data = list(words[1 + n_addr :])
    if len(words) - 1 < n_addr:
        raise ValueError(f"block of {len(words)} words is too short for {k} addresses")
    mask = (1 << config.weight_addr_bits) - 1
    columns: list[list[int]] = []
    start = 0
    for col in range(k):
        if dense:
            end = start + _ceil_div(m0, config.macs_per_pe)
        else:
            index, slot = divmod(col, config.weight_addrs_per_word)
            end = words[1 + index] >> (slot * config.weight_addr_bits) & mask
        if end < start:
            raise ValueError(f"column {col}: address {end} before {start}, not monotonic")
        if end > len(data):
            raise ValueError(f"column {col}: address {end} past the end ({len(data)} words)")
        pairs = [pair for word in data[start:end] for pair in _unpack(word, config, dense)]
        if dense and any(pair != (0, 0) for pair in pairs[m0:]):
            raise ValueError(f"column {col}: data past the end of the column")
        if dense:
            pairs = pairs[:m0]
        else:
            while pairs and pairs[-1] == (0, 0):
                pairs.pop()
        try:
            columns.append(csc_expand(pairs, m0))
        except ValueError as error:
            raise ValueError(f"column {col}: {error}") from None
        start = end
    if start != len(data):
        raise ValueError(f"{len(data) - start} data words after the last column")
    return columns
