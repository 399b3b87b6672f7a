"""Activation tensors as they lie in DRAM: channel blocks of eight, raw or one RLC chunk a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rowmesh.rtl.config import WORD_BYTES
from rowmesh.rtl.layouts import RLC_PAIRS
from rowmesh.sim_models.compress import rlc_decode, rlc_encode

__all__ = ["Feature"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One activation tensor of batch 1 in DRAM, ``[planes][height][width][8]`` bytes.

    Parameters
    ----------
    name : str
        The model's name of the tensor.
    channels, height, width : int
        Logical shape; channels are padded to a multiple of eight.
    offset : int
        What is added to the model's int8 value to get the stored byte: 128 (unsigned storage) or 0.
    zero_point : int
        The model's zero point.
    address : int
        Byte address in DRAM.
    density : float
        Part of the stored values that is expected not to be zero.
    compressed : bool
        Every row is one RLC chunk in a slot of its worst-case size.
    """

    name: str
    channels: int
    height: int
    width: int
    offset: int
    zero_point: int
    address: int = 0
    density: float = 1.0
    compressed: bool = False

    @property
    def planes(self) -> int:
        """Blocks of eight channels."""
        return -(-self.channels // WORD_BYTES)

    @property
    def signed(self) -> bool:
        """Whether stored bytes are two's complement."""
        return self.offset == 0

    @property
    def stored_zero(self) -> int:
        """The zero point in the stored domain."""
        return self.zero_point + self.offset

    @property
    def row_words(self) -> int:
        """64-bit words from one row to the next."""
        return chunk_words(self.width) if self.compressed else self.width

    @property
    def row_stride(self) -> int:
        """Bytes from one row to the next."""
        return WORD_BYTES * self.row_words

    @property
    def plane_stride(self) -> int:
        """Bytes from one plane to the next."""
        return self.row_stride * self.height

    @property
    def size(self) -> int:
        """Bytes of DRAM."""
        return self.plane_stride * self.planes

    @property
    def raw_size(self) -> int:
        """Bytes of the same tensor without compression."""
        return self.planes * self.height * self.width * WORD_BYTES

    def moved(self, values: NDArray[np.int8]) -> int:
        """Bytes that a pass over these values moves: the chunks without what is left of a slot."""
        if not self.compressed:
            return self.raw_size
        rows = self._blocked(values).reshape(self.planes * self.height, -1)
        return WORD_BYTES * sum(len(rlc_encode(row)) for row in rows)

    def store(self, values: NDArray[np.int8]) -> bytes:
        """Bytes of DRAM for values of shape (height, width, channels)."""
        blocked = self._blocked(values)
        if not self.compressed:
            return blocked.tobytes()
        slots = np.zeros((self.planes * self.height, self.row_words), np.uint64)
        for slot, row in zip(slots, blocked.reshape(len(slots), -1), strict=True):
            words = rlc_encode(row)
            slot[: len(words)] = words
        return slots.tobytes()

    def _blocked(self, values: NDArray[np.int8]) -> NDArray[np.uint8]:
        """Stored bytes of shape (planes, height, width, 8)."""
        if values.shape != (self.height, self.width, self.channels):
            raise ValueError(
                f"tensor {self.name}: shape {values.shape}, "
                f"not {(self.height, self.width, self.channels)}"
            )
        padded = np.zeros((self.height, self.width, self.planes * WORD_BYTES), np.uint8)
        padded[..., : self.channels] = (values.astype(np.int16) + self.offset).astype(np.uint8)
        blocked = padded.reshape(self.height, self.width, self.planes, WORD_BYTES)
        return np.ascontiguousarray(blocked.transpose(2, 0, 1, 3))

    def load(self, memory: bytes) -> NDArray[np.int8]:
        """Values of shape (height, width, channels) from the tensor's bytes of DRAM."""
        if self.compressed:
            slots = np.frombuffer(memory, np.uint64).reshape(-1, self.row_words)
            rows = [rlc_decode([int(w) for w in slot], self.width * WORD_BYTES) for slot in slots]
            blocked = np.asarray(rows, np.int16).astype(np.uint8)
        else:
            blocked = np.frombuffer(memory, np.uint8)
        blocked = blocked.reshape(self.planes, self.height, self.width, WORD_BYTES)
        values = blocked.transpose(1, 2, 0, 3).reshape(self.height, self.width, -1)
        shifted = values[..., : self.channels].astype(np.int16)
        if self.signed:
            return shifted.astype(np.uint8).view(np.int8)
        return (shifted - self.offset).astype(np.int8)


def chunk_words(words: int) -> int:
    """Worst-case 64-bit words of an RLC chunk of `words` decoded words."""
    return -(-words * WORD_BYTES // RLC_PAIRS)
