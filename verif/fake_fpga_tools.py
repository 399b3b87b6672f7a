"""Stand-ins for the tools of the ECP5 flow, for what the flow does around them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["install"]


def install(folder: Path, name: str, **settings: object) -> Path:
    """Write a program that behaves like a tool, as far as the flow can see.

    Parameters
    ----------
    folder : Path
        Where it goes.
    name : str
        ``yosys``, ``nextpnr-ecp5`` or ``ecppack``. Writes its calls to ``calls.txt`` in its
        working directory; nextpnr breaks off half-way while ``$FAKE_BREAK`` is set.
    **settings
        `version`; of yosys `cells`, which the design takes more than a few; of nextpnr `mhz`, to
        which it adds the seed.
    """
    path = folder / name
    own = Path(__file__).read_text(encoding="utf-8")
    call = f"sys.exit(_main({name!r}, {settings!r}, sys.argv[1:]))"
    path.write_text(f"#!{sys.executable}\n{own}\n\n{call}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def _main(name: str, settings: dict[str, Any], arguments: list[str]) -> int:
    """What every stand-in does."""
    if arguments == ["--version"]:
        print(f"{name} Version {settings.get('version', '1.99')}")
        return 0
    with open("calls.txt", "a", encoding="utf-8") as calls:
        calls.write(f"{name} {' '.join(arguments)}\n")
    options = dict(zip(arguments, arguments[1:], strict=False))
    if name == "yosys":
        _synthesize(Path(arguments[0]).read_text(encoding="utf-8"), settings)
    elif name == "nextpnr-ecp5":
        return _place(options, settings)
    else:
        Path(arguments[-1]).write_text("bits", encoding="utf-8")
    return 0


def _synthesize(script: str, settings: dict[str, Any]) -> None:
    words = {line.split()[0]: line.split() for line in script.splitlines() if line}
    cells = {"LUT4": 100, "CCU2C": 10, "TRELLIS_FF": 50, "TRELLIS_DPR16X4": 5}
    cells |= settings.get("cells", {})
    stat = {"modules": {"\\rowmesh_board": {"num_cells_by_type": cells}}}
    Path(words["tee"][2]).write_text(json.dumps(stat), encoding="utf-8")
    Path(words["write_json"][1]).write_text("netlist", encoding="utf-8")


def _place(options: dict[str, str], settings: dict[str, Any]) -> int:
    Path(options["--textcfg"]).write_text(
        f"seed {options['--seed']} at {options['--freq']} MHz", encoding="utf-8"
    )
    if os.environ.get("FAKE_BREAK"):
        print("ERROR: broken off")
        return 3
    mhz = settings.get("mhz", 70.0) + int(options["--seed"])
    clock = "$glbnet$clk"
    path = [
        _step("clk-to-q", 0.5, "shell.top.pe_0_1.mac.first_TRELLIS_FF_Q"),
        _step("routing", 1.5, "shell.top.pe_0_1.mac.first_TRELLIS_FF_Q", "shell.top.go"),
        _step("setup", 1.0, "shell.top.pe_0_1.psum_spad.lower.memory.0.1_DO"),
    ]
    report = {
        "fmax": {clock: {"achieved": mhz, "constraint": float(options["--freq"])}},
        "critical_paths": [{"from": f"posedge {clock}", "to": f"posedge {clock}", "path": path}],
        "utilization": {"TRELLIS_COMB": {"used": 160, "available": 24288}},
    }
    Path(options["--report"]).write_text(json.dumps(report), encoding="utf-8")
    return 0


def _step(kind: str, delay: float, cell: str, net: str = "") -> dict[str, object]:
    return {"type": kind, "delay": delay, "net": net, "from": {"cell": cell}}
