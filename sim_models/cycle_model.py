"""Cycles of a layer under a mapping, from the throughput of every unit and what cannot overlap.

The constants were fitted to the layers of MobileNet v1 0.5/128, dense and sparse, on the RTL of
`eyeriss_v2`.
"""

import math
from dataclasses import dataclass

from rowmesh.gen.codec import expected_part, worth_coding
from rowmesh.gen.mapping import Mapping, Spread
from rowmesh.rtl.config import IACT_PAIRS, PSUM_LANES, WORD_BYTES

__all__ = ["BlockWords", "predicted_cycles", "program_words"]

#: Cycles in which a layer begins and ends: program, latencies, the last responses.
_LAYER = 200.0
#: Between two weight blocks of a PE.
_BLOCK = 1.0
#: Between two tiles of post-processing.
_TILE = 15.0
#: Part of the off-chip bandwidth that is reached.
_DRAM = 0.95
#: Part of the loading of a tile, where a bank holds only one, that nothing hides.
_ALONE = 0.5
#: Units that are busy nearly all of the time hold each other up: exponent of the norm of their
#: times, which would be the longest of them alone with an infinite one.
_NORM = 12
#: Waiting for each other of PEs whose windows have more and fewer non-zeros, in standard
#: deviations of a window's work: those of a chain drain together, those of a row share iacts.
_WAITING = 1.1
#: Words of the program for a reader's descriptor.
_READER = 3.0


@dataclass(frozen=True)
class BlockWords:
    """Weight words of the blocks of a layer.

    Parameters
    ----------
    largest : int
    mean, busiest : float
        Of all blocks; of the largest of those that the PEs of a psum chain, and of the columns
        that differ in output channels, have at the same time.
    """

    largest: int
    mean: float
    busiest: float


def predicted_cycles(
    mapping: Mapping,
    words: BlockWords,
    density: float,
    most: float = math.inf,
    parts: int | None = None,
) -> tuple[float, str]:
    """Cycles of the layer and the limiting unit.

    Parameters
    ----------
    mapping : Mapping
    words : BlockWords
        Sizes of its weight blocks.
    density : float
        Part of the iacts that is not zero.
    most : float
        Cycles from which on nobody asks any more: a lower bound is enough.
    parts : int, optional
        Descriptors that the readers of a psum chain need for a load; one for each, if not known.
    """
    config, task = mapping.config, mapping.task
    windows = mapping.rows * mapping.width
    groups, passes = mapping.groups, mapping.passes
    addresses = 0 if mapping.dense else -(-mapping.cols // max(1, config.weight_addrs_per_word))
    load = words.mean + addresses + 1
    # One item: a PE with its weight block.
    steps = mapping.rows * (mapping.width + mapping.segments - 1)
    filled = density * mapping.c0 * mapping.pixels  # non-zeros of a segment
    beats = max(mapping.pixels * -(-mapping.c0 // WORD_BYTES), 1.0, filled / IACT_PAIRS)
    window = max(density * words.busiest, density * mapping.cols, mapping.segments)
    # The SPad holds some segments, so that only what differs over several windows counts.
    ahead = max(1.0, config.iact_words / max(1.0, filled / IACT_PAIRS))
    variance = (1 - density) / mapping.cols / ahead
    window *= 1 + _WAITING * variance**0.5
    # A block that fills more than half of the SPad leaves no room for the whole next one.
    exposed = min(load, max(0.0, 2 * words.mean - config.weight_data_depth))
    # Nor do psums of more than half of theirs: the next window waits until they have left.
    leaving = mapping.m0 / PSUM_LANES + 1 if mapping.m0 > config.psum_depth // 2 else 0.0
    pe = windows * (window + leaving) - leaving + max(exposed, leaving) + _BLOCK
    psums = windows * (mapping.m0 / PSUM_LANES + 1)
    blocks = groups * passes
    columns = max(mapping.spatial_cols, mapping.output_cols)
    post = groups * (windows * mapping.m0 / PSUM_LANES * columns + _TILE)
    units = {
        "PE": blocks * pe,
        "iact NoC": blocks * steps * mapping.spatial_cols * beats,
        "weight NoC": blocks * mapping.output_cols * load,
        "psum NoC": (groups if mapping.in_pe else blocks) * psums,
        "post": post,
        "program": _round_words(mapping, mapping.depth if parts is None else parts),
    }
    rounds = mapping.rounds
    if rounds * max(units.values()) >= most:
        return rounds * max(units.values()), ""
    iacts, weights, outputs = _dram_words(mapping, blocks, load)
    rate = _DRAM * config.axi_data_bits / 64
    alone = iacts / rate  # while nothing else can be done
    units["DRAM"] = (weights + outputs + (iacts if mapping.bank_slots > 1 else 0)) / rate
    limit = max(units, key=lambda name: units[name])
    longest = units[limit]
    busy = longest * sum((time / longest) ** _NORM for time in units.values()) ** (1 / _NORM)
    cycles = rounds * busy + alone * (1 if mapping.bank_slots > 1 else _ALONE * rounds)
    pixels = task.pooled(0, mapping.rows) * task.pooled(1, mapping.width)
    tail = post / groups + pixels
    return cycles + _LAYER + tail, limit


def program_words(mapping: Mapping, parts: int) -> float:
    """Words of the program for a layer, about: its check reads them once before the first layer."""
    return mapping.rounds * _round_words(mapping, parts)


def _round_words(mapping: Mapping, parts: int) -> float:
    """Words of the program for a round, about."""
    return (2.0 * mapping.pe_rows + _READER * parts) * mapping.loads + mapping.groups + 4.0


def _dram_words(mapping: Mapping, blocks: int, load: float) -> tuple[float, float, float]:
    """64-bit words that one AXI master moves in a round: iacts, weights, outputs."""
    config, task = mapping.config, mapping.task
    clusters = config.cluster_cols * config.rows_per_axi_master
    iact_sources = 1 if mapping.horizontal is Spread.OUTPUTS else clusters
    weight_sources = 1 if mapping.horizontal is Spread.SPACE else clusters
    # A row begins and ends within a beat.
    edges = 1 + (config.axi_data_bits // 64 - 1) / mapping.input_width(mapping.width)
    iacts = edges * mapping.pe_rows * mapping.tile_words * mapping.loads * iact_sources
    if mapping.width == task.used_size[1] and task.second is None and worth_coding(task.input):
        iacts *= expected_part(task.input)
    pixels = task.pooled(0, mapping.rows) * task.pooled(1, mapping.width) * mapping.spatial_cols
    outputs = pixels * mapping.slot_outputs // task.word_psums
    weights = blocks * mapping.output_cols * mapping.pe_rows * load * weight_sources
    bits = config.weight_dense_word_bits if mapping.dense else config.weight_word_bits
    return iacts, weights * bits / 64, clusters * outputs
