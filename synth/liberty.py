"""What the area report needs of a Liberty file: areas, flip-flops, and which cell is a NAND2."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OWN_LIBERTY", "Liberty", "read_liberty"]

#: The project's own library, in which a NAND2 is 1.
OWN_LIBERTY = Path(__file__).with_name("cells.lib")

_CELL = re.compile(r"\bcell\s*\(\s*\"?([^\s\")]+)\"?\s*\)\s*\{")
_AREA = re.compile(r"\barea\s*:\s*\"?([0-9.eE+-]+)")
_FUNCTION = re.compile(r"\bfunction\s*:\s*\"([^\"]*)\"")
_OUTPUTS = re.compile(r"\bdirection\s*:\s*\"?output\b")
#: The ways to write a NAND2: (A*B)', !(A&B), !A | !B, A'+B'.
_NAND2 = re.compile(
    r"\(+(\w+)\)*[*&]\(*(\w+)\)+'|!\(+(\w+)\)*[*&]\(*(\w+)\)+"
    r"|\(*!(\w+)\)*[+|]\(*!(\w+)\)*|\(*(\w+)'\)*[+|]\(*(\w+)'\)*"
)


@dataclass(frozen=True, kw_only=True)
class Liberty:
    """A cell library.

    Parameters
    ----------
    path : Path
        Its file.
    areas : dict of str to float
        Area of every cell, in the library's own unit.
    flip_flops : frozenset of str
        Cells that hold a bit.
    nand2 : float
        Area of the smallest two-input NAND.
    """

    path: Path
    areas: dict[str, float]
    flip_flops: frozenset[str]
    nand2: float


def read_liberty(path: Path) -> Liberty:
    """Read a Liberty file.

    Raises
    ------
    ValueError
        The file does not exist, or has no NAND2 with an area.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"Liberty file {path}: {error.strerror}") from None
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    areas: dict[str, float] = {}
    flip_flops = set()
    nands = []
    for match in _CELL.finditer(text):
        body = _group(text, match.end())
        area = _AREA.search(body)
        if area is None:
            continue
        areas[match[1]] = float(area[1])
        if re.search(r"\bff\s*\(", body):
            flip_flops.add(match[1])
        functions = _FUNCTION.findall(body)
        if len(functions) == 1 and len(_OUTPUTS.findall(body)) == 1 and _is_nand2(functions[0]):
            nands.append(float(area[1]))
    if not nands or min(nands) <= 0:
        raise ValueError(f"Liberty file {path}: no two-input NAND with an area in it")
    return Liberty(path=path, areas=areas, flip_flops=frozenset(flip_flops), nand2=min(nands))


def _group(text: str, start: int) -> str:
    """Text from `start` to the brace that closes the group."""
    depth = 1
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if not depth:
            return text[start : match.start()]
    return text[start:]


def _is_nand2(function: str) -> bool:
    match = _NAND2.fullmatch(re.sub(r"\s+", "", function))
    if match is None:
        return False
    first, second = (name for name in match.groups() if name)
    return first != second
