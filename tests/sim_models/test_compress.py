"""CSC, weight blocks and RLC: known vectors, round trips on any data, and malformed streams."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmesh.rtl.config import Config
from rowmesh.sim_models.compress import (
    csc_expand,
    csc_segment,
    iact_beats,
    iact_from_beats,
    rlc_decode,
    rlc_encode,
)
from rowmesh.sim_models.compress_weights import decode_weight_block, weight_block

CONFIG = Config()


@st.composite
def sparse(draw: st.DrawFn, most: int = 80) -> list[int]:
    """int8 values of any sparsity from 0 to 100 %."""
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0]))
    rng = np.random.default_rng(seed)
    size = draw(st.integers(0, most))
    values = rng.integers(-128, 128, size)
    return [int(v) for v in np.where(rng.random(size) < density, values, 0)]


def test_csc_vectors() -> None:
    assert csc_segment([0, 0, 5, -3, 0, 0], 4) == [(2, 5), (0, -3)]
    assert csc_segment([0] * 9, 4) == []
    assert csc_segment([0] * 3 + [7], 1) == [(1, 0), (1, 7)]
    assert csc_segment([0] * 16 + [7], 4) == [(15, 0), (0, 7)]
    assert csc_segment([0] * 15 + [7], 4) == [(15, 7)]
    assert csc_segment([0, 1], 0) == [(0, 0), (0, 1)]


def test_iact_beat_vectors() -> None:
    assert iact_beats([0, 0], 4) == [((0, 0), (0, 0), True)]
    assert iact_beats([1, 0, 2, 3], 4) == [((0, 1), (1, 2), False), ((0, 3), (0, 0), True)]


@given(sparse(), st.integers(0, 8))
def test_csc_and_beats_round_trip(values: list[int], count_bits: int) -> None:
    pairs = csc_segment(values, count_bits)
    assert all(0 <= count < 1 << count_bits for count, _ in pairs)
    assert csc_expand(pairs, len(values)) == values
    beats = iact_beats(values, count_bits)
    assert iact_from_beats(beats, len(values)) == values


@given(sparse(200))
def test_rlc_round_trip(values: list[int]) -> None:
    words = rlc_encode(values)
    assert all(0 <= word < 1 << 64 for word in words)
    assert len(words) <= -(-len(values) // 5)
    assert rlc_decode(words, len(values)) == values
    slot = [*words, 15 << 60]  # what lies behind the chunk is not looked at
    assert rlc_decode(slot, len(values)) == values


def test_rlc_vectors() -> None:
    assert rlc_encode([0] * 7) == [0]
    assert rlc_encode([0, -1]) == [1 << 60 | 0x1FF]
    full = 5 << 60 | 0x001001001001001
    assert rlc_encode([1] * 6) == [full, 1 << 60 | 0x001]
    assert rlc_encode([1] * 5) == [full]
    assert rlc_encode([1] * 5 + [0]) == [full, 0], "zeros at the end: an empty word ends the chunk"


@pytest.mark.parametrize(
    ("words", "length", "message"),
    [
        ([], 4, "0 RLC words have no end of the chunk of 4 bytes"),
        ([5 << 60], 8, "1 RLC words have no end of the chunk of 8 bytes"),
        ([6 << 60], 4, "word 0: 6 valid pairs"),
        ([1 << 60 | 0x401], 4, "count 4 goes past the end"),
        ([5 << 60], 4, "past the end"),
    ],
)
def test_malformed_rlc(words: list[int], length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rlc_decode(words, length)


@pytest.mark.parametrize("last", [[True, True], [False, False]])
def test_misplaced_last(last: list[bool]) -> None:
    beats = [((0, 1), (0, 1), flag) for flag in last]
    with pytest.raises(ValueError, match=r"beat .: last"):
        iact_from_beats(beats, 8)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 8),
    st.integers(0, 12),
    st.integers(1, 16),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.booleans(),
)
def test_weight_block_round_trip(
    seed: int, macs: int, count_bits: int, k: int, m0: int, density: float, dense: bool
) -> None:
    config = dataclasses.replace(
        CONFIG, macs_per_pe=macs, count_bits=count_bits, weight_data_depth=200
    )
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((k, m0)) < density, rng.integers(-128, 128, (k, m0)), 0).tolist()
    words = weight_block(matrix, config, dense=dense)
    width = config.weight_dense_word_bits if dense else config.weight_word_bits
    assert all(0 <= word < 1 << width for word in words)
    assert decode_weight_block(words, k, m0, config, dense=dense) == matrix


def test_weight_block_vector() -> None:
    # 24-bit words of two (4-bit count, 8-bit value) pairs; three 7-bit end addresses a word.
    matrix = [[0, 0, 0], [1, 0, -1], [0, 0, 0], [0, 0, 2]]
    words = weight_block(matrix, CONFIG)
    assert words == [4, 0 | 1 << 7 | 1 << 14, 2, 0x1FF001, 0x202]
    assert weight_block(matrix[1:2], CONFIG, dense=True) == [2, 0x0001, 0x00FF]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "says no length"),
        ([9, 0, 0], "says 9"),
        ([3, 2 | 1 << 7, 1, 1], "column 1: address 1 before 2, not monotonic"),
        ([2, 1 | 2 << 7, 1], "column 1: address 2 past the end"),
        ([3, 1 | 1 << 7, 1, 1], "1 data words after the last column"),
        ([2, 1 | 1 << 7, 0xF01], "column 0: pair 0: count 15 goes past the end"),
    ],
)
def test_malformed_weight_block(words: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_weight_block(words, 2, 4, CONFIG)


def test_weight_block_refuses() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        weight_block([[1], [1, 2]], CONFIG)
    with pytest.raises(ValueError, match="column 0: weight 128"):
        weight_block([[128]], CONFIG)
    small = dataclasses.replace(CONFIG, weight_data_depth=8)
    with pytest.raises(ValueError, match="16 data words do not fit an address of 4 bits"):
        weight_block([[1, 1]] * 16, small)
