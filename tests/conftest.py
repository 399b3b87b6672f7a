"""Fixtures of all tests.

``ROWMESH_SIM`` (both simulators by default) and ``ROWMESH_SEED`` (1) choose what the cocotb
benches run on; ``make sim`` sets them. A test that takes `sim` is a cocotb test.
"""

import os
from pathlib import Path

import pytest

SIMULATORS = ("verilator", "icarus")


def _simulators() -> list[str]:
    chosen = os.environ.get("ROWMESH_SIM")
    if not chosen:
        return list(SIMULATORS)
    if chosen not in SIMULATORS:
        raise pytest.UsageError(f"ROWMESH_SIM={chosen}: must be one of {', '.join(SIMULATORS)}")
    return [chosen]


def _seed() -> int:
    text = os.environ.get("ROWMESH_SEED") or "1"
    if not text.isdecimal():
        raise pytest.UsageError(f"ROWMESH_SEED={text}: must be a number")
    return int(text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `sim` on every simulator; put the seed into the test's name."""
    if "sim" in metafunc.fixturenames:
        metafunc.parametrize("sim", _simulators())
    if "seed" in metafunc.fixturenames and not _parametrizes(metafunc, "seed"):
        metafunc.parametrize("seed", [_seed()], ids=lambda seed: f"seed{seed}")


def _parametrizes(metafunc: pytest.Metafunc, name: str) -> bool:
    marks = metafunc.definition.iter_markers("parametrize")
    return any(name in str(mark.args[0]).replace(",", " ").split() for mark in marks)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on a simulator, for ``make sim``."""
    for item in items:
        if "sim" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cocotb)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of material beside the checkout that is not part of it; skips where there is none."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("needs the folder ../shared beside the checkout (models, published figures)")
    return path
