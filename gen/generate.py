"""`rowmesh generate`: everything that one accelerator consists of, as files."""

from pathlib import Path

from rowmesh.gen.errors import RowmeshError
from rowmesh.gen.verilog import emit
from rowmesh.rtl.config import Config

__all__ = ["generate", "write_files"]

#: Name of the top module in the generated Verilog.
TOP = "rowmesh"


def generate(config: Config) -> dict[str, str]:
    """Make the files of an accelerator.

    Parameters
    ----------
    config : Config
        The accelerator.

    Returns
    -------
    dict
        File name to contents: ``rowmesh.v``, ``registers.md``, ``rowmesh_regs.h`` and
        ``config.toml``. The same configuration gives the same bytes.
    """
    # Here, so that the command line answers at once where no hardware is made.
    from rowmesh.rtl.control import registers
    from rowmesh.rtl.top import Top

    return {
        "rowmesh.v": emit(Top(config), TOP),
        "registers.md": registers.to_markdown(config),
        "rowmesh_regs.h": registers.to_c_header(config),
        "config.toml": config.to_toml(),
    }


def write_files(files: dict[str, str], out_dir: Path) -> None:
    """Write files into a folder, which is made when it does not exist.

    Raises
    ------
    RowmeshError
        The folder cannot be made or written.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out_dir / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RowmeshError(f"cannot write {out_dir}: {error.strerror}") from None
