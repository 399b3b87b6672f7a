"""The project as a package, and the tools that every other test needs."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import rowmesh

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("gen", "rtl", "sim_models", "synth", "verif")


def test_console_script() -> None:
    (script,) = entry_points(group="console_scripts", name="rowmesh")
    assert script.value == "rowmesh.gen.cli:main"
    path = Path(sys.executable).parent / "rowmesh"
    out = subprocess.run([path, "--help"], capture_output=True, text=True, check=True).stdout
    assert "generate" in out


@pytest.mark.parametrize("part", PARTS)
def test_folder_is_a_package(part: str) -> None:
    link = ROOT / "src" / "rowmesh" / part
    assert link.is_symlink()
    assert not Path(os.readlink(link)).is_absolute()
    assert link.resolve() == ROOT / part
    assert importlib.import_module(f"rowmesh.{part}").__name__ == f"rowmesh.{part}"


def test_every_folder_with_code_is_a_package() -> None:
    """A folder without `__init__.py` would be missing from the wheel."""
    found = {module.name for module in pkgutil.walk_packages(rowmesh.__path__, "rowmesh.")}
    for part in PARTS:
        for file in (ROOT / part).rglob("*.py"):
            name = ".".join(("rowmesh", *file.relative_to(ROOT).with_suffix("").parts))
            name = name.removesuffix(".__init__")
            assert name in found, f"{file.relative_to(ROOT)} is not importable"


def test_data_files_are_packaged() -> None:
    """Files that the code reads must be in `package-data`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    for part in PARTS:
        for file in (ROOT / part).rglob("*"):
            if not file.is_file() or "__pycache__" in file.parts or file.suffix == ".py":
                continue
            assert any(file.match(pattern) for pattern in patterns), file.relative_to(ROOT)


def test_no_path_of_a_machine() -> None:
    """Files in the repository name no folder of the machine that they were written on."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    marks = ("/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/")
    for name in filter(None, names.split("\0")):
        file = ROOT / name
        if file.is_symlink() or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        assert not any(mark in text for mark in marks), name


def test_make_lists_targets() -> None:
    command = ["make", "--no-print-directory", "-C", str(ROOT)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    names = [line.split()[0] for line in out.stdout.splitlines() if line.startswith("  ")]
    wanted = ["setup", "demo", "test", "lint", "rtl", "sim", "area", "bench", "clean"]
    assert set(wanted) <= set(names)
    assert "CONFIG=demo" in out.stdout
