"""The registers on both simulators, and what is written down about them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rowmesh.rtl.config import PRESETS, Config
from rowmesh.rtl.control.csr import Csr
from rowmesh.rtl.control.registers import (
    Access,
    Field,
    Register,
    RegisterMap,
    register_map,
    to_c_header,
    to_markdown,
)
from rowmesh.verif.simulator import Simulator, run_bench


@pytest.mark.cocotb
@pytest.mark.parametrize("preset", ["tiny", "eyeriss_v2"])
def test_csr(sim: Simulator, seed: int, preset: str) -> None:
    config = PRESETS[preset]()
    run_bench(Csr(config), "rowmesh.verif.bench_csr", sim=sim, seed=seed, config=config)


@pytest.mark.parametrize("preset", PRESETS)
def test_fields_do_not_overlap_and_fit(preset: str) -> None:
    for register in register_map(PRESETS[preset]()).registers:
        total = 0
        for field in register.fields:
            assert total & register.mask(field.name) == 0
            assert field.reset < 1 << field.bits
            total |= register.mask(field.name)
        assert total < 1 << 32


def test_identification() -> None:
    config = Config()
    regs = register_map(config)
    assert regs["MAGIC"].offset == 0
    assert regs["MAGIC"].fields[0].reset.to_bytes(4, "little") == b"RWMH"
    assert regs["CONFIG_HASH"].fields[0].reset == config.hash
    assert regs["CONTROL"].compose({"start": 1, "single_step": 1}) == 5
    assert regs["GEOMETRY"].extract("pe_cols", 0x04030202) == 4


def test_markdown_names_every_field() -> None:
    text = to_markdown(Config())
    lines = text.splitlines()
    fields = sum(len(register.fields) for register in register_map(Config()).registers)
    assert len(lines) == fields + 2
    assert {line.count("|") for line in lines} == {8}


def test_c_header_compiles_and_says_the_same(tmp_path: Path) -> None:
    config = Config()
    text = to_c_header(config)
    values = dict(re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)u", text))
    for register in register_map(config).registers:
        assert int(values[f"ROWMESH_{register.name}_OFFSET"], 0) == register.offset
        for field in register.fields:
            name = f"ROWMESH_{register.name}_{field.name.upper()}"
            assert int(values[f"{name}_MASK"], 0) == register.mask(field.name)
    assert int(values["ROWMESH_CONFIG_HASH"], 0) == config.hash
    assert int(values["ROWMESH_FAULT_PROGRAM_CRC"], 0) == 10
    assert int(values["ROWMESH_OP_LAYER"], 0) == 6
    compiler = shutil.which("cc")
    assert compiler is not None
    (tmp_path / "regs.h").write_text(text)
    source = '#include "regs.h"\n#include "regs.h"\nint main(void) { return ROWMESH_OP_END; }\n'
    (tmp_path / "main.c").write_text(source)
    command = [compiler, "-Wall", "-Werror", "-std=c99", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_bad_descriptions_are_refused() -> None:
    field = Field("value", 8, 0, "A value.")
    with pytest.raises(ValueError, match="multiple of 4"):
        Register("BAD", 2, Access.RO, (field,))
    with pytest.raises(ValueError, match="more than 32 bits"):
        Register("BAD", 0, Access.RO, (field,) * 5)
    one, two = (Register("SAME", offset, Access.RO, (field,)) for offset in (0, 4))
    with pytest.raises(ValueError, match="same name"):
        RegisterMap(Config(), (one, two))
    with pytest.raises(ValueError, match="rise"):
        RegisterMap(Config(), (two, one))
    with pytest.raises(ValueError, match=r"SAME.value = 256: must fit 8 bits"):
        one.compose({"value": 256})
    with pytest.raises(KeyError, match="no field 'nothing'"):
        one.field("nothing")


def test_documentation_has_the_registers() -> None:
    """`docs/registers.md` is what `rowmesh generate` writes for the preset `demo`."""
    page = Path(__file__).resolve().parents[2] / "docs" / "registers.md"
    assert page.read_text(encoding="utf-8") == to_markdown(PRESETS["demo"]())
