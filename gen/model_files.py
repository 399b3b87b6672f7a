"""Real networks that are on this machine, for comparisons and benchmarks. Nothing needs them."""

import importlib.util
from pathlib import Path

__all__ = ["mlperf_tiny_models", "real_models", "wake_word_models"]

#: Folder beside a checkout with the MLPerf Tiny reference models.
_SHARED = Path("shared") / "models"


def mlperf_tiny_models() -> list[Path]:
    """The int8 MLPerf Tiny reference models, where the folder lies beside the checkout."""
    for parent in Path(__file__).resolve().parents:
        if (parent / _SHARED).is_dir():
            return sorted((parent / _SHARED).glob("*.tflite"))
    return []


def wake_word_models() -> list[Path]:
    """The streaming wake-word models of PyPI ``pymicro-wakeword``, where it is installed."""
    spec = importlib.util.find_spec("pymicro_wakeword")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    return sorted(path for folder in folders for path in Path(folder).glob("models/*.tflite"))


def real_models() -> list[Path]:
    """All of them."""
    return mlperf_tiny_models() + wake_word_models()
