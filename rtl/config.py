"""The one configuration object: every width and depth of the machine is read from here.

RTL, golden model, compiler, test benches, C header and area report take a `Config`; nothing else
computes a width. Presets are small differences from the default.
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["PRESETS", "Config", "load_config"]

#: (low, high) inclusive, or a tuple of choices, for every integer field.
RANGES: dict[str, tuple[int, int]] = {
    "cluster_rows": (1, 32),
    "cluster_cols": (1, 32),
    "pe_rows": (1, 8),
    "pe_cols": (1, 8),
    "iact_bits": (2, 8),
    "weight_bits": (4, 8),
    "psum_bits": (16, 32),
    "count_bits": (1, 8),
    "iact_addr_depth": (2, 64),
    "iact_data_depth": (4, 256),
    "weight_addr_depth": (4, 64),
    "weight_data_depth": (8, 1024),
    "psum_depth": (8, 256),
    "glb_iact_banks": (1, 8),
    "glb_iact_bytes": (64, 65536),
    "glb_psum_count": (16, 32768),
    "param_depth": (16, 4096),
    "rows_per_axi_master": (1, 32),
}
CHOICES: dict[str, tuple[Any, ...]] = {
    "macs_per_pe": (1, 2, 4),
    "axi_data_bits": (64, 128, 256, 512, 1024),
    "rounding": ("single", "double"),
    "sparse": (True, False),
    "deep_pipeline": (False, True),
}


def bits_for(maximum: int) -> int:
    """Bits of an unsigned field that holds every value from 0 to `maximum`."""
    return max(1, maximum.bit_length())


@dataclass(frozen=True, kw_only=True)
class Config:
    """Parameters of one accelerator.

    Parameters
    ----------
    cluster_rows, cluster_cols : int
        Size of the cluster mesh.
    pe_rows, pe_cols : int
        PEs of one cluster. Psums accumulate along a column of PEs; a row shares a weight port.
    macs_per_pe : int
        Multipliers of a PE, SIMD over the weights of one column: 1, 2 or 4.
    iact_bits, weight_bits, psum_bits : int
        Widths of the operands and of the partial sums.
    count_bits : int
        Width of a CSC count (zeros before a value). A longer run is split by an explicit zero.
    iact_addr_depth : int
        Entries of the iact address SPad: segments that a PE holds at once.
    iact_data_depth : int
        (count, value) pairs of the iact data SPad (even: two pairs a word).
    weight_addr_depth : int
        Columns that the weight address SPad holds.
    weight_data_depth : int
        Words of ``macs_per_pe`` (count, value) pairs of the weight data SPad.
    psum_depth : int
        Psums that a PE holds, both banks together (multiple of 4).
    glb_iact_banks, glb_iact_bytes : int
        iact banks of a cluster (one router each) and bytes of one bank. The compiler gives every PE
        row a bank of its own, so rows beyond the banks idle.
    glb_psum_count : int
        psums that one psum bank holds (one bank a PE column).
    param_depth : int
        Output channels whose bias and scale a cluster's post-processing holds (two halves).
    rows_per_axi_master : int
        Cluster rows that share one AXI4 master.
    axi_data_bits : int
        Data width of each AXI4 master.
    rounding : str
        Requantization: ``single`` (ONNX Runtime) or ``double`` (gemmlowp).
    sparse : bool
        False builds a plain dense PE: no counts, no address SPads, zero gating only.
    deep_pipeline : bool
        More registers, for the clock of an FPGA: in the PE, between most blocks, in the plan of
        bursts and in requantization. Some cycles of latency; every burst takes a cycle more.

    Raises
    ------
    ValueError
        Names the field, its value and the limit.
    """

    cluster_rows: int = 2
    cluster_cols: int = 2
    pe_rows: int = 3
    pe_cols: int = 4
    macs_per_pe: int = 2
    iact_bits: int = 8
    weight_bits: int = 8
    psum_bits: int = 24
    count_bits: int = 4
    iact_addr_depth: int = 9
    iact_data_depth: int = 16
    weight_addr_depth: int = 16
    weight_data_depth: int = 96
    psum_depth: int = 32
    glb_iact_banks: int = 3
    glb_iact_bytes: int = 2048
    glb_psum_count: int = 1024
    param_depth: int = 256
    rows_per_axi_master: int = 1
    axi_data_bits: int = 128
    rounding: str = "single"
    sparse: bool = True
    deep_pipeline: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES:
                allowed = CHOICES[field.name]
                if value not in allowed or type(value) is not type(allowed[0]):
                    raise ValueError(f"{field.name} = {value!r}: must be one of {list(allowed)}")
                continue
            low, high = RANGES[field.name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{field.name} = {value!r}: must be an integer")
            if not low <= value <= high:
                raise ValueError(f"{field.name} = {value}: must be within {low}..{high}")
        for name, step in (
            ("iact_data_depth", 2),
            ("psum_depth", 4),
            ("glb_iact_bytes", 2 * WORD_BYTES),
            ("glb_psum_count", 4),
            ("param_depth", 4),
        ):
            if getattr(self, name) % step:
                raise ValueError(f"{name} = {getattr(self, name)}: must be a multiple of {step}")
        if self.pe_rows * self.pe_cols > 32:
            raise ValueError(
                f"pe_rows x pe_cols = {self.pe_rows} x {self.pe_cols}: at most 32 PEs a cluster"
            )
        if self.cluster_rows % self.rows_per_axi_master:
            raise ValueError(
                f"rows_per_axi_master = {self.rows_per_axi_master}: "
                f"must divide cluster_rows = {self.cluster_rows}"
            )
        channels = self.rows_per_axi_master * self.cluster_cols * self.read_channels + 1
        most = _INSTANCE_BITS // (self.axi_data_bits + 2)
        if channels > most:
            raise ValueError(
                f"rows_per_axi_master = {self.rows_per_axi_master}: {channels} read channels of "
                f"{self.axi_data_bits} b share a master, at most {most} can"
            )
        if self.psum_bits < self.iact_bits + self.weight_bits:
            raise ValueError(
                f"psum_bits = {self.psum_bits}: must hold one product, "
                f"iact_bits + weight_bits = {self.iact_bits + self.weight_bits}"
            )
        length_bits = bits_for(self.weight_data_depth + self.weight_addr_depth)
        if length_bits > self.weight_dense_word_bits:
            raise ValueError(
                f"weight_data_depth = {self.weight_data_depth}: a block length of {length_bits} b "
                f"must fit macs_per_pe x weight_bits = {self.weight_dense_word_bits}"
            )

    # -- derived sizes -------------------------------------------------------------------------

    @property
    def pes_per_cluster(self) -> int:
        """PEs of one cluster."""
        return self.pe_rows * self.pe_cols

    @property
    def most_instances(self) -> int:
        """Units of the most frequent kind in a cluster."""
        return max(self.pes_per_cluster, self.glb_iact_banks)

    @property
    def clusters(self) -> int:
        """Clusters of the mesh."""
        return self.cluster_rows * self.cluster_cols

    @property
    def pes(self) -> int:
        """PEs of the whole array."""
        return self.clusters * self.pes_per_cluster

    @property
    def macs(self) -> int:
        """Multipliers of the whole array."""
        return self.pes * self.macs_per_pe

    @property
    def axi_masters(self) -> int:
        """AXI4 masters: one for each group of cluster rows."""
        return self.cluster_rows // self.rows_per_axi_master

    @property
    def read_channels(self) -> int:
        """DMA read channels of a cluster: iact and weight loaders, parameters."""
        return self.glb_iact_banks + self.pe_rows + 1

    @property
    def csc_count_bits(self) -> int:
        """Bits of the count in a pair: none in a dense machine."""
        return self.count_bits if self.sparse else 0

    @property
    def max_run(self) -> int:
        """Longest run of zeros that one count says."""
        return (1 << self.csc_count_bits) - 1

    @property
    def iact_pair_bits(self) -> int:
        """Bits of one iact (count, value) pair."""
        return self.csc_count_bits + self.iact_bits

    @property
    def weight_pair_bits(self) -> int:
        """Bits of one weight (count, value) pair."""
        return self.csc_count_bits + self.weight_bits

    @property
    def weight_word_bits(self) -> int:
        """Bits of a weight SPad word and of the weight NoC port: one pair a MAC."""
        return self.macs_per_pe * self.weight_pair_bits

    @property
    def weight_dense_word_bits(self) -> int:
        """Bits of a raw weight word in DRAM (values only)."""
        return self.macs_per_pe * self.weight_bits

    @property
    def weight_addr_bits(self) -> int:
        """Bits of an address-vector entry: 0 to ``weight_data_depth`` words."""
        return bits_for(self.weight_data_depth)

    @property
    def weight_addrs_per_word(self) -> int:
        """Address-vector entries in one weight word of a block header."""
        return self.weight_word_bits // self.weight_addr_bits

    @property
    def iact_words(self) -> int:
        """Words (pairs of pairs) of the iact data SPad."""
        return self.iact_data_depth // IACT_PAIRS

    @property
    def glb_iact_words(self) -> int:
        """64-bit words of one iact bank."""
        return self.glb_iact_bytes // WORD_BYTES

    @property
    def glb_psum_words(self) -> int:
        """Two-psum words of one psum bank."""
        return self.glb_psum_count // PSUM_LANES

    @cached_property
    def hash(self) -> int:
        """Stable 32-bit hash of all parameters, as the identification register reads."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def to_toml(self) -> str:
        """The configuration as TOML that `load_config` reads back."""
        lines = [f"{key} = {json.dumps(val)}" for key, val in dataclasses.asdict(self).items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Config":
        """Build from a mapping; ``base = "preset"`` starts from a preset.

        Raises
        ------
        ValueError
            An unknown key or preset, or a value out of range.
        """
        values = dict(values)
        base = values.pop("base", None)
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ValueError(f"unknown configuration field {key!r}; known: {sorted(known)}")
        return dataclasses.replace(_preset(base) if base is not None else cls(), **values)


#: Bytes of a DRAM channel word, of a GLB iact word and of a tensor's channel block.
WORD_BYTES = 8
#: (count, value) pairs of one iact NoC beat and of one iact SPad word.
IACT_PAIRS = 2
#: Output bits that Amaranth can number on one instance, here a master's data and handshakes.
_INSTANCE_BITS = (1 << 16) - 256
#: psums of one psum NoC beat and of one psum bank word.
PSUM_LANES = 2

PRESETS: dict[str, Callable[[], Config]] = {
    # Small enough for a quick bitstream for an LFE5U-25F, and for quick simulations. A single row
    # of PEs, as the mapping gives every row an iact bank of its own.
    "tiny": lambda: Config(
        cluster_rows=1,
        cluster_cols=1,
        pe_rows=1,
        pe_cols=2,
        glb_iact_banks=1,
        glb_iact_bytes=1024,
        glb_psum_count=256,
        param_depth=64,
        axi_data_bits=64,
    ),
    "demo": lambda: Config(),
    # JETCAS 2019: 192 PEs, published SPad, GLB and port sizes, 8 masters x 16 B/cycle.
    "eyeriss_v2": lambda: Config(
        cluster_rows=8,
        cluster_cols=2,
        psum_bits=20,
        glb_iact_bytes=1536,
        glb_psum_count=768,
        param_depth=1024,
    ),
    # One cluster, as the parts that a cluster has once are large beside its PEs; one master of
    # 64 bits. Banks and parameters fill the block RAMs that their widths take: see docs/fpga.md.
    # The small FPGA has no room for the registers of a deep pipeline.
    "fpga_25f": lambda: _fpga(pe_rows=1, pe_cols=3, deep_pipeline=False),
    "fpga_85f": lambda: _fpga(pe_rows=3, pe_cols=4, deep_pipeline=True),
}


def _fpga(*, pe_rows: int, pe_cols: int, deep_pipeline: bool) -> Config:
    return Config(
        cluster_rows=1,
        cluster_cols=1,
        pe_rows=pe_rows,
        pe_cols=pe_cols,
        glb_iact_banks=pe_rows,
        glb_iact_bytes=4096,
        param_depth=512,
        axi_data_bits=64,
        deep_pipeline=deep_pipeline,
    )


def _preset(name: object) -> Config:
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; presets: {', '.join(PRESETS)}")
    return PRESETS[name]()


def load_config(name: str) -> Config:
    """Read a preset by name or a TOML file by path.

    Raises
    ------
    ValueError
        No such preset or file, bad TOML, or a parameter out of range.
    """
    path = Path(name)
    if path.suffix == ".toml":
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"configuration file {name} does not exist") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"configuration file {name}: {error}") from None
        return Config.from_mapping(values)
    return _preset(name)
