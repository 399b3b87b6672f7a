"""FuseSoC generator: Verilog of an accelerator, or of one with the board shell.

FuseSoC calls it with the path of a file of parameters; it writes Verilog and a core file into the
current folder. See ``rowmesh.core``. Parameters:

config : str
    Preset or TOML file (relative to the core that asks).
shell : mapping, optional
    Arguments of `rowmesh.rtl.shell.shell.Shell`; without it the accelerator alone is made.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rowmesh.gen.generate import generate, write_files
from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config, load_config
from rowmesh.rtl.control.registers import to_c_header
from rowmesh.rtl.shell.shell import Shell

__all__ = ["main"]


def read_parameters(path: Path) -> dict[str, Any]:
    """The file that FuseSoC writes: YAML, for which its own Python has a reader; or JSON."""
    text = path.read_text(encoding="utf-8")
    try:
        import yaml
    except ImportError:
        found: dict[str, Any] = json.loads(text)
    else:
        found = yaml.safe_load(text)
    return found


def make_files(config: Config, shell: dict[str, Any] | None) -> dict[str, str]:
    """Verilog, and what belongs to it."""
    if shell is None:
        return generate(config)
    return {
        "rowmesh_shell.v": emit(Shell(config, **shell), "rowmesh_shell"),
        "rowmesh_regs.h": to_c_header(config),
        "config.toml": config.to_toml(),
    }


def main(arguments: list[str]) -> int:
    """Run the generator; the exit status."""
    asked = read_parameters(Path(arguments[0]))
    parameters = asked.get("parameters") or {}
    unknown = set(parameters) - {"config", "shell"}
    try:
        if unknown:
            raise ValueError(f"unknown parameters {sorted(unknown)}: there are config and shell")
        name = str(parameters.get("config", "tiny"))
        if name.endswith(".toml"):
            name = str(Path(asked["files_root"], name))
        files = make_files(load_config(name), parameters.get("shell"))
    except (ValueError, TypeError) as error:
        print(f"rowmesh: error: {error}", file=sys.stderr)
        return 1
    write_files(files, Path.cwd())
    verilog = [file for file in files if file.endswith(".v")]
    headers = [{file: {"is_include_file": True}} for file in files if file.endswith(".h")]
    core = {
        "name": asked["vlnv"],
        "filesets": {
            "rtl": {"files": verilog, "file_type": "verilogSource"},
            "driver": {"files": headers, "file_type": "user"},
        },
        "targets": {"default": {"filesets": ["rtl", "driver"]}},
    }
    # JSON is YAML.
    text = f"CAPI=2:\n{json.dumps(core, indent=1)}\n"
    Path("rowmesh_generated.core").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
