"""Published areas that a report is compared with: here and nowhere else."""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """Size of a published chip.

    Parameters
    ----------
    logic_nand2 : float
        Logic gates in NAND2 equivalents, memories not included.
    memory_kib : float
        On-chip memory: global buffers and scratch pads.
    source : str
        Where the figures are from.
    """

    logic_nand2: float
    memory_kib: float
    source: str


#: By preset.
PUBLISHED = {
    "eyeriss_v2": Published(
        logic_nand2=2_695_000,
        memory_kib=246,
        source="Chen et al., Eyeriss v2, JETCAS 2019 (arXiv 1807.07928), 65 nm",
    )
}
