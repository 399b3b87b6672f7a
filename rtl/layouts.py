"""Every payload and descriptor of the machine, in one place.

`Layouts(config)` gives the stream payloads and the descriptors as Amaranth layouts. A descriptor
travels the configuration bus as 32-bit words, field after field from the low bits up: `packing`
makes them for the compiler, the RTL slices the same layout.
"""

from functools import cached_property

from amaranth.hdl import signed
from amaranth.lib import data

from rowmesh.rtl.codes import Unit
from rowmesh.rtl.config import IACT_PAIRS, PSUM_LANES, WORD_BYTES, Config, bits_for
from rowmesh.rtl.nest import Nest

__all__ = ["Layouts"]

ADDRESS_BITS = 32
WORD_BITS = 8 * WORD_BYTES
CONFIG_BITS = 32
#: Steps of a ramp over the mesh, with a sign.
STEP_BITS = 24
#: Steps between rows and planes in DRAM, in bytes, with a sign.
DRAM_STEP_BITS = 28
#: (pairs, count bits, value bits) of an RLC word of a tensor in DRAM: `docs/architecture.md`.
RLC_PAIRS, RLC_COUNT_BITS, RLC_VALUE_BITS = 5, 4, 8
#: Loop nests: levels of the iact reader, the post-processing reader and the output writer.
IACT_LOOPS, POST_LOOPS, WRITER_LOOPS = 8, 7, 4
#: Innermost loops of the iact reader that make one segment (pixel of the stride, word).
SEGMENT_LOOPS = 2
#: Innermost loops of the iact reader that walk one item: no more rounds than words in the bank.
ITEM_LOOPS = 5
COUNT_BITS = 12
#: Bias (32), multiplier (31) and shift (6) of one output channel: two DRAM words.
BIAS_BITS, MULTIPLIER_BITS, SHIFT_BITS = 32, 31, 6
PARAM_WORDS = 2


class Layouts:
    """Payload and descriptor layouts of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- stream payloads -----------------------------------------------------------------------

    @cached_property
    def iact_pair(self) -> data.StructLayout:
        """One (count, value) pair of an iact segment."""
        c = self.config
        return data.StructLayout({"value": c.iact_bits, "count": c.csc_count_bits})

    @cached_property
    def iact_beat(self) -> data.StructLayout:
        """Two pairs of a segment; an empty second half has value 0. `last` ends the segment."""
        return data.StructLayout({"pairs": data.ArrayLayout(self.iact_pair, IACT_PAIRS), "last": 1})

    @cached_property
    def weight_pair(self) -> data.StructLayout:
        """One (count, value) pair of a weight column."""
        c = self.config
        return data.StructLayout({"value": signed(c.weight_bits), "count": c.csc_count_bits})

    @cached_property
    def weight_beat(self) -> data.StructLayout:
        """One weight SPad word, or a word of the address vector. `last` ends the block."""
        return data.StructLayout({"word": self.config.weight_word_bits, "last": 1})

    @cached_property
    def psum_beat(self) -> data.ArrayLayout:
        """Two neighbouring psums."""
        return data.ArrayLayout(signed(self.config.psum_bits), PSUM_LANES)

    @cached_property
    def dma_request(self) -> data.StructLayout:
        """A contiguous transfer of `words` 64-bit words from a 64-bit aligned byte address."""
        return data.StructLayout({"address": ADDRESS_BITS, "words": 24})

    @cached_property
    def param(self) -> data.StructLayout:
        """Post-processing parameters of one output channel."""
        return data.StructLayout(
            {"bias": signed(BIAS_BITS), "multiplier": MULTIPLIER_BITS, "shift": SHIFT_BITS}
        )

    # -- configuration bus ---------------------------------------------------------------------

    @cached_property
    def instruction(self) -> data.StructLayout:
        """One 64-bit program word."""
        return data.StructLayout(
            {
                "data": CONFIG_BITS,
                "go": 1,
                "index": 6,
                "number": 5,
                "col": 5,
                "row": 5,
                "unit": 4,
                "opcode": 6,
            }
        )

    @cached_property
    def steps(self) -> data.StructLayout:
        """A program word again, as STEP has it."""
        low = {"row_step": signed(STEP_BITS), "col_step": signed(STEP_BITS)}
        return data.StructLayout({**low, "unused": 10, "opcode": 6})

    @cached_property
    def config_write(self) -> data.StructLayout:
        """One word on its way to the descriptor ports of the chosen clusters and instances.

        `unit` is a `Unit`, or a `Stepping`. With `ramp` every node adds its step to `data`.
        """
        return data.StructLayout(
            {
                "rows": self.config.cluster_rows,
                "cols": self.config.cluster_cols,
                "instances": self.config.most_instances,
                "unit": 4,
                "index": 6,
                "go": 1,
                "ramp": 1,
                "data": CONFIG_BITS,
            }
        )

    # -- descriptors ---------------------------------------------------------------------------

    @property
    def tile_bits(self) -> int:
        """Bits of a number of words, pixels or rows of a tile."""
        return bits_for(self.config.glb_iact_words)

    @cached_property
    def pe(self) -> data.StructLayout:
        """Work of one PE: ``groups x blocks`` weight blocks, each met by ``rows x windows``.

        PEs of a cluster that work at the same time share all fields before `iact_source`.
        """
        c = self.config
        return data.StructLayout(
            {
                "groups": 16,  # psum groups: accumulations that start from zero
                "blocks": COUNT_BITS,  # weight blocks accumulated into one psum group
                "rows": self.tile_bits,  # runs of sliding windows that meet one weight block
                "windows": self.tile_bits,  # windows of a run
                "segments": bits_for(c.iact_addr_depth),  # segments of a window
                "segment_cols": bits_for(c.weight_addr_depth),  # columns of a segment (C0 * U)
                "cols": bits_for(c.weight_addr_depth),  # columns of a window (C0 * S)
                "psums": bits_for(c.psum_depth),  # M0, even
                "iact_signed": 1,
                "weight_dense": 1,  # blocks without counts and addresses
                "iact_source": bits_for(c.glb_iact_banks - 1),  # router listened to
                "chain": 1,  # add the psums of the PE below
            }
        )

    @cached_property
    def iact_router(self) -> data.StructLayout:
        """Segments of a circuit; slot ``n mod period`` of them goes to listeners of that phase."""
        listener = data.StructLayout({"enable": 1, "phase": 4})
        return data.StructLayout(
            {
                "segments": 24,
                "source": 3,
                "to_north": 1,
                "to_south": 1,
                "to_west": 1,
                "to_east": 1,
                "period": 5,
                "listeners": data.ArrayLayout(listener, self.config.pes_per_cluster),
            }
        )

    @cached_property
    def weight_router(self) -> data.StructLayout:
        """Blocks of a circuit, broadcast to the listeners of the PE row or dealt in turn."""
        return data.StructLayout(
            {
                "blocks": 24,
                "source": 3,
                "to_west": 1,
                "to_east": 1,
                "deal": 1,
                "listeners": self.config.pe_cols,
            }
        )

    @cached_property
    def psum_router(self) -> data.StructLayout:
        """Psum beats that leave the PE column: to the bank here, or on to the cluster north."""
        return data.StructLayout({"beats": 24, "to_north": 1, "from_south": 1})

    @cached_property
    def iact_loader(self) -> data.StructLayout:
        """One tile for one bank: planes of rows with a constant border."""
        return data.StructLayout(
            {
                "base": ADDRESS_BITS,  # byte address of the first word inside the border
                # From the last row of a plane to the next plane; `plane_stride` in programs.
                "plane_step": signed(DRAM_STEP_BITS),
                "row_stride": signed(DRAM_STEP_BITS),
                "words": self.tile_bits,  # DRAM words of a row
                "planes": self.tile_bits,
                "rows": self.tile_bits,  # rows from DRAM
                "top": 8,  # rows of padding
                "bottom": 8,
                "left": 8,  # words of padding
                "right": 8,
                "pad": 8,  # byte that fills the border
                "compressed": 1,  # every DRAM row is one RLC chunk
                "slots": 4,  # tiles that may be in the bank, this one included
                "dest": bits_for(self.config.glb_iact_words - 1),
            }
        )

    @property
    def iact_address_bits(self) -> int:
        """Bits of a byte address in an iact bank."""
        return bits_for(self.config.glb_iact_bytes - 1)

    @cached_property
    def iact_reader(self) -> data.StructLayout:
        """A loop nest (level 0 innermost) over one tile; the two innermost levels are a segment."""
        counts = [self.tile_bits] * ITEM_LOOPS + [COUNT_BITS] * (IACT_LOOPS - ITEM_LOOPS)
        return data.StructLayout(
            {
                "base": self.iact_address_bits,
                "bytes": 4,  # valid bytes of a word, from the address on
                "dense": 1,  # send zeros as values
                "release": 1,  # the tile is free after this descriptor
                "loops": Nest(counts, stride=self.iact_address_bits),
            }
        )

    @cached_property
    def weight_loader(self) -> data.StructLayout:
        """`blocks` blocks that lie packed in `words` DRAM words, streamed `repeats` times."""
        return data.StructLayout(
            {"base": ADDRESS_BITS, "words": 24, "blocks": 24, "repeats": 16, "dense": 1}
        )

    @property
    def psum_word_bits(self) -> int:
        """Bits of a word address in a psum bank."""
        return bits_for(self.config.glb_psum_words - 1)

    @property
    def psum_address_bits(self) -> int:
        """Bits of a word address over all psum banks of a cluster (bank above word)."""
        return self.psum_word_bits + bits_for(self.config.pe_cols - 1)

    @property
    def param_address_bits(self) -> int:
        """Bits of a channel-pair address in one half of the parameter memory."""
        return bits_for(self.config.param_depth // 2 // PSUM_LANES - 1)

    @cached_property
    def psum_bank(self) -> data.StructLayout:
        """Tiles of `words`, each the sum of `passes` equal sequences; two slots take turns."""
        return data.StructLayout(
            {
                "words": bits_for(self.config.glb_psum_words),
                "passes": COUNT_BITS,
                "tiles": 16,
                "single": 1,  # a tile takes the whole bank
            }
        )

    @cached_property
    def post(self) -> data.StructLayout:
        """How tiles of psums become output words.

        Four psum words make one output word; eight with `sum`, where the two psums of a word are
        scaled each by its own multiplier and added to one value.
        """
        strides = {
            "psum_stride": self.psum_address_bits,
            "param_stride": self.param_address_bits,
        }
        return data.StructLayout(
            {
                "tiles": 16,
                "banks": self.config.pe_cols,  # mask of banks that hold a part of the tile
                "psum_base": self.psum_address_bits,
                "param_base": self.param_address_bits,
                "zero_point": signed(10),
                "low": signed(10),
                "high": signed(10),
                "pool": 8,  # output words that one maximum is taken over
                "sum": 1,  # single rounding only: a value is the sum of a word's scaled psums
                "release": 1,  # the parameters are free after this descriptor
                "loops": Nest([bits_for(self.config.glb_psum_words)] * POST_LOOPS, **strides),
            }
        )

    @cached_property
    def out_writer(self) -> data.StructLayout:
        """Runs of `words` contiguous words at the addresses of a loop nest (level 0 innermost)."""
        return data.StructLayout(
            {
                "base": ADDRESS_BITS,
                "words": 16,
                "compressed": 1,  # every run is one RLC chunk
                "loops": Nest([COUNT_BITS] * WRITER_LOOPS, stride=signed(DRAM_STEP_BITS)),
            }
        )

    @cached_property
    def param_loader(self) -> data.StructLayout:
        """Parameters of `channels` (even) output channels into a free half of the memory."""
        return data.StructLayout({"base": ADDRESS_BITS, "channels": 16})

    def descriptor(self, unit: Unit) -> data.StructLayout:
        """Layout of the descriptor that `unit` takes."""
        layout = getattr(self, unit.name.lower())
        assert isinstance(layout, data.StructLayout)
        return layout
