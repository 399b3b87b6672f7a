"""The image of DRAM: where everything lies, and the streams of weights and parameters."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.mapping import Mapping
from rowmesh.gen.tile_work import Region, block_matrix
from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import PARAM_WORDS
from rowmesh.sim_models.compress_weights import weight_block

__all__ = ["MemoryImage", "pack_words", "place_params", "place_weights", "raw_bytes"]

#: Alignment of everything in DRAM: an AXI burst never crosses it.
_PAGE = 4096


class MemoryImage:
    """Bump allocator and image of DRAM."""

    def __init__(self) -> None:
        self.end = 0
        self.parts: list[tuple[int, bytes]] = []

    def reserve(self, size: int) -> int:
        """Address of that many bytes of room."""
        address = self.end
        self.end += -(-size // _PAGE) * _PAGE
        return address

    def place(self, content: bytes) -> int:
        """Address of bytes that the image holds."""
        address = self.reserve(len(content))
        self.parts.append((address, content))
        return address

    def to_bytes(self) -> bytes:
        """DRAM from address 0."""
        out = bytearray(self.end)
        for address, content in self.parts:
            out[address : address + len(content)] = content
        return bytes(out)


def pack_words(words: Sequence[int], bits: int) -> bytes:
    """Pack words of `bits` bits back to back from the low bits, padded to 64-bit words."""
    table = np.asarray(words, np.uint64)
    one = (table[:, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    packed = np.packbits(one.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return packed + bytes(-len(packed) % WORD_BYTES)


def place_weights(mapping: Mapping, memory: MemoryImage) -> dict[tuple[int, int, int], Region]:
    """Encode the weight stream of every position in the chain, output slot and block slot."""
    config, m0, cols = mapping.config, mapping.m0, mapping.output_cols
    bits = config.weight_dense_word_bits if mapping.dense else config.weight_word_bits
    out: dict[tuple[int, int, int], Region] = {}
    for key in np.ndindex(mapping.depth, mapping.output_slots, mapping.block_slots):
        position, outputs, blocks = key
        words: list[int] = []
        count = 0
        items = mapping.row_items(position)
        for block in mapping.slot_blocks(blocks):
            start = block * mapping.block_outputs + outputs * mapping.slot_outputs
            for group, item, column in product(range(mapping.groups), items, range(cols)):
                matrix = block_matrix(mapping, item, start + m0 * (group * cols + column))
                words += weight_block(matrix.tolist(), config, dense=mapping.dense)
                count += 1
        content = pack_words(words, bits)
        out[position, outputs, blocks] = Region(
            memory.place(content), len(content) // WORD_BYTES, count
        )
    return out


def raw_bytes(mapping: Mapping, regions: Iterable[Region]) -> int:
    """Bytes of weight streams as raw values."""
    config = mapping.config
    words = 1 + mapping.cols * -(-mapping.m0 // config.macs_per_pe)
    bits = words * config.weight_dense_word_bits
    return sum(-(-region.blocks * bits // (8 * WORD_BYTES)) * WORD_BYTES for region in regions)


def place_params(mapping: Mapping, memory: MemoryImage) -> dict[tuple[int, int], int]:
    """Place the parameters of every output slot and block slot, in the order of its work."""
    task = mapping.task
    table = _param_table(mapping).reshape(
        task.blocks, mapping.output_slots, mapping.slot_outputs, PARAM_WORDS
    )
    return {
        (outputs, blocks): memory.place(table[list(mapping.slot_blocks(blocks)), outputs].tobytes())
        for outputs, blocks in np.ndindex(mapping.output_slots, mapping.block_slots)
    }


def _param_table(mapping: Mapping) -> NDArray[np.uint64]:
    """Bias, multiplier and shift of every psum of a position, padding too: two DRAM words each."""
    task = mapping.task
    table = np.zeros((task.blocks * mapping.block_outputs, PARAM_WORDS), np.uint64)
    bias = task.bias.astype(np.int32).view(np.uint32).astype(np.uint64)
    table[: task.outputs, 0] = bias | task.multiplier.astype(np.uint64) << np.uint64(32)
    table[:, 1] = 1
    table[: task.outputs, 1] = task.shift.astype(np.uint64)
    return table
