"""Operators of the internal graph and their attributes; `rowmesh.gen.graph` exports them all."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "AddAttrs",
    "Attrs",
    "Clamp",
    "ClampAttrs",
    "Clamped",
    "ConcatAttrs",
    "ConvAttrs",
    "FcAttrs",
    "Numerics",
    "Op",
    "PadAttrs",
    "PoolAttrs",
    "QuantizeAttrs",
    "ReshapeAttrs",
    "SliceAttrs",
    "SoftmaxAttrs",
    "StateAttrs",
    "TransposeAttrs",
]

#: Inclusive bounds of an output: real values in a float graph, quantized values in an int8 graph.
Clamp = tuple[float, float]


class Op(StrEnum):
    """Operators of the internal graph."""

    CONV = "conv"
    FULLY_CONNECTED = "fully_connected"
    MAX_POOL = "max_pool"
    AVG_POOL = "avg_pool"
    ADD = "add"
    RESHAPE = "reshape"
    TRANSPOSE = "transpose"
    CONCAT = "concat"
    SLICE = "slice"
    PAD = "pad"
    CLAMP = "clamp"
    SOFTMAX = "softmax"
    LOGISTIC = "logistic"
    QUANTIZE = "quantize"
    DEQUANTIZE = "dequantize"
    READ_STATE = "read_state"
    WRITE_STATE = "write_state"


class Numerics(StrEnum):
    """Whose rounding an int8 graph has, where ONNX Runtime and LiteRT differ."""

    TFLITE = "tflite"
    ONNX = "onnx"


@dataclass(frozen=True, kw_only=True)
class ConvAttrs:
    """Attributes of a (grouped, depthwise) convolution.

    Parameters
    ----------
    strides, dilations : tuple of int
        Vertical, horizontal.
    pads : tuple of int
        Top, bottom, left, right; padded with the real value zero.
    groups : int
        G; the input channels and M are multiples of it.
    clamp : tuple of float, optional
        Bounds of the output (fused activation); None only in a float graph.
    """

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class FcAttrs:
    """Attributes of a fully connected layer: the bounds of its output."""

    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class PoolAttrs:
    """Attributes of a pooling; padding never takes part in a maximum.

    Parameters
    ----------
    kernel, strides : tuple of int
        Vertical, horizontal.
    pads : tuple of int
        Top, bottom, left, right.
    count_include_pad : bool
        An average divides by the whole window, padding included.
    mean : bool
        TFLite's MEAN over height and width: an average of one window with rounding of its own,
        between tensors of any quantization.
    clamp : tuple of float, optional
        Bounds of the output (fused activation).
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False
    mean: bool = False
    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class AddAttrs:
    """Attributes of an elementwise addition: the bounds of its output."""

    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class ReshapeAttrs:
    """No attributes: of a reshape, whose output tensor has the shape, and of other operators."""


@dataclass(frozen=True, kw_only=True)
class TransposeAttrs:
    """Attributes of a transpose: output axis i is input axis ``perm[i]``."""

    perm: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ConcatAttrs:
    """Attributes of a concatenation: along which axis."""

    axis: int


@dataclass(frozen=True, kw_only=True)
class SliceAttrs:
    """Attributes of a slice, for every axis as Python's ``begin:end:stride``.

    Parameters
    ----------
    begin, stride : tuple of int
    end : tuple of int or None
        None: to the end of the axis in the direction of the stride.
    """

    begin: tuple[int, ...]
    end: tuple[int | None, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PadAttrs:
    """Attributes of a padding: (before, after) of every axis, and the value as it is stored."""

    pads: tuple[tuple[int, int], ...]
    value: float


@dataclass(frozen=True, kw_only=True)
class SoftmaxAttrs:
    """Attributes of a softmax over the last axis: the factor of its inputs."""

    beta: float = 1.0


@dataclass(frozen=True, kw_only=True)
class QuantizeAttrs:
    """Attributes of a quantization, of real or of quantized values.

    Parameters
    ----------
    activation : bool
        It is an activation function that stands alone: TFLite has one rounding for it.
    clamp : tuple of float, optional
        Bounds of the output.
    """

    activation: bool = False
    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class ClampAttrs:
    """Attributes of an activation function that stands alone: the bounds of its output."""

    clamp: Clamp | None = None


@dataclass(frozen=True, kw_only=True)
class StateAttrs:
    """Attributes of reading or writing a state: its name."""

    state: str


Clamped = ConvAttrs | FcAttrs | PoolAttrs | AddAttrs | QuantizeAttrs | ClampAttrs
Attrs = (
    Clamped
    | ReshapeAttrs
    | TransposeAttrs
    | ConcatAttrs
    | SliceAttrs
    | PadAttrs
    | SoftmaxAttrs
    | StateAttrs
)
