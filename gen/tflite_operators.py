"""What each TFLite operator becomes in the internal graph."""

from collections.abc import Callable

import numpy as np

from rowmesh.gen.graph import (
    AddAttrs,
    Array,
    ConvAttrs,
    FcAttrs,
    Op,
    PoolAttrs,
    Quant,
    QuantizeAttrs,
    ReshapeAttrs,
    SoftmaxAttrs,
    StateAttrs,
    Tensor,
)
from rowmesh.gen.shapes import Pads, broadcasts_to, output_size, same_pads
from rowmesh.gen.tflite_builder import TfliteBuilder
from rowmesh.gen.tflite_moves import MOVES
from rowmesh.gen.tflite_reader import RawOperator

__all__ = ["HANDLERS", "state_name"]

_SAME = 0
_IMAGE_RANK = 4


def _image(builder: TfliteBuilder, tensor: Tensor) -> tuple[int, int]:
    """Height and width of an image."""
    if len(tensor.shape) != _IMAGE_RANK:
        raise builder.error(f"tensor {tensor.name!r} has shape {list(tensor.shape)}: 4-d is needed")
    return tensor.shape[1], tensor.shape[2]


def _spatial(
    builder: TfliteBuilder,
    x: Tensor,
    out: Tensor,
    kernel: tuple[int, int],
) -> tuple[Pads, tuple[int, int], tuple[int, int]]:
    """Padding, strides and dilations; checks the shape of the output."""
    strides = (builder.option("StrideH"), builder.option("StrideW"))
    dilations = (builder.option("DilationHFactor", 1), builder.option("DilationWFactor", 1))
    if min(*strides, *dilations) < 1:
        raise builder.error(f"strides {strides} and dilations {dilations} must be positive")
    seen, pads = _image(builder, x), (0, 0, 0, 0)
    if builder.option("Padding") == _SAME:
        pads = same_pads(seen, kernel, strides, dilations)
    size = output_size(seen, kernel, strides, pads, dilations)
    if size != _image(builder, out) or out.shape[0] != x.shape[0]:
        raise builder.error(f"the output has shape {list(out.shape)}: {size} was expected")
    return pads, strides, dilations


# -- layers with weights -----------------------------------------------------------------------


def _weights(builder: TfliteBuilder, x: Tensor, channels_axis: int) -> tuple[Array, Quant | None]:
    """Values and scales of the weights; real values in a float network."""
    raw = builder.raw_input(1)
    values = builder.constant(1)
    if raw is None:
        raise builder.error("the weights are missing")
    if x.quant is None:
        if raw.dtype == "INT8" and raw.scale.size:  # weights of a "dynamic range" network
            shape = [1] * values.ndim
            shape[raw.axis if raw.scale.size > 1 else 0] = raw.scale.size
            values = values * raw.scale.reshape(shape).astype(np.float32)
        elif raw.dtype not in ("FLOAT32", "FLOAT16"):
            raise builder.error(f"weights {raw.name!r} are {raw.dtype} for a float input")
        return values.astype(np.float32), None
    if raw.dtype != "INT8":
        raise builder.error(f"weights {raw.name!r} are {raw.dtype}: must be INT8")
    if not raw.scale.size or raw.scale.size not in (1, values.shape[channels_axis]):
        raise builder.error(f"weights {raw.name!r} have {raw.scale.size} scales")
    if raw.scale.size > 1 and raw.axis != channels_axis:
        raise builder.error(f"weights {raw.name!r} have scales along axis {raw.axis}")
    if np.any(raw.zero_point):
        raise builder.error(f"weights {raw.name!r} have a zero point that is not 0")
    return values, Quant(raw.scale)


def _layer_tensors(
    builder: TfliteBuilder, x: Tensor, weights: Array, quant: Quant | None
) -> list[Tensor]:
    """Input, weights and bias (if there is one) of a layer."""
    raw = builder.raw_input(1)
    assert raw is not None
    dtype = "float32" if quant is None else "int8"
    name = builder.helper(raw.name, x, ()).name if raw.name in builder.tensors else raw.name
    tensors = [x, Tensor(name, weights.shape, dtype, quant, np.ascontiguousarray(weights))]
    raw_bias = builder.raw_input(2)
    if raw_bias is not None:
        bias = builder.constant(2).reshape(-1)
        if bias.size != weights.shape[0]:
            raise builder.error(f"bias {raw_bias.name!r} has {bias.size} values")
        if quant is not None and raw_bias.dtype != "INT32":
            raise builder.error(f"bias {raw_bias.name!r} is {raw_bias.dtype}: must be INT32")
        scale = None
        if quant is not None and x.quant is not None:
            scale = Quant(x.quant.scale[0] * quant.scale)
        kind = "float32" if quant is None else "int32"
        name = raw_bias.name
        if name in builder.tensors:
            name = builder.helper(name, x, ()).name
        tensors.append(Tensor(name, bias.shape, kind, scale, bias.astype(kind)))
    return tensors


def _conv(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    _image(builder, x)
    weights, quant = _weights(builder, x, 0)
    if weights.ndim != _IMAGE_RANK:
        raise builder.error(f"weights of shape {weights.shape}: 4-d is needed")
    m, r, s, per_group = weights.shape
    channels = x.shape[3]
    if per_group < 1 or channels % per_group or m % (channels // per_group) or m != out.shape[-1]:
        raise builder.error(f"{channels} channels and weights {weights.shape} do not fit")
    pads, strides, dilations = _spatial(builder, x, out, (r, s))
    attrs = ConvAttrs(
        strides=strides, pads=pads, dilations=dilations, groups=channels // per_group,
        clamp=builder.clamp(out),
    )  # fmt: skip
    builder.emit(Op.CONV, _layer_tensors(builder, x, weights, quant), out, attrs)


def _depthwise(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    _image(builder, x)
    weights, quant = _weights(builder, x, 3)
    channels = x.shape[3]
    fits = weights.ndim == _IMAGE_RANK and weights.shape[0] == 1
    if not fits or weights.shape[3] % channels or weights.shape[3] != out.shape[-1]:
        raise builder.error(f"{channels} channels and weights {weights.shape} do not fit")
    pads, strides, dilations = _spatial(builder, x, out, weights.shape[1:3])
    attrs = ConvAttrs(
        strides=strides, pads=pads, dilations=dilations, groups=channels, clamp=builder.clamp(out)
    )
    columns = weights.transpose(3, 1, 2, 0)
    builder.emit(Op.CONV, _layer_tensors(builder, x, columns, quant), out, attrs)


def _fully_connected(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    if builder.option("WeightsFormat"):
        raise builder.error("unsupported format of the weights")
    weights, quant = _weights(builder, x, 0)
    if weights.ndim != 2 or int(np.prod(x.shape)) % weights.shape[1]:
        raise builder.error(f"shapes {list(x.shape)} and {weights.shape} do not fit")
    m, c = weights.shape
    rows = int(np.prod(x.shape)) // c
    if int(np.prod(out.shape)) != rows * m:
        raise builder.error(f"the output has shape {list(out.shape)}: {[rows, m]} was expected")
    if x.shape != (rows, c):
        flat = builder.helper(f"{x.name}_flat", x, (rows, c))
        builder.reshape(x, flat)
        x = flat
    made = out
    if out.shape != (rows, m):
        made = builder.helper(f"{out.name}_flat", out, (rows, m))
    attrs = FcAttrs(clamp=builder.clamp(out))
    builder.emit(Op.FULLY_CONNECTED, _layer_tensors(builder, x, weights, quant), made, attrs)
    if made is not out:
        builder.reshape(made, out)


# -- pooling, addition -------------------------------------------------------------------------


def _pool(builder: TfliteBuilder, op: Op) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    builder.require_same_quant(x, out)
    kernel = (builder.option("FilterHeight"), builder.option("FilterWidth"))
    if min(kernel) < 1:
        raise builder.error(f"the window {kernel} is empty")
    pads, strides, _ = _spatial(builder, x, out, kernel)
    attrs = PoolAttrs(kernel=kernel, strides=strides, pads=pads, clamp=builder.clamp(out))
    builder.emit(op, [x], out, attrs)


def _mean(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    rank = len(x.shape)
    axes = sorted(int(axis) % rank for axis in builder.constant(1).reshape(-1))
    size = _image(builder, x)
    if axes != [1, 2]:
        raise builder.error(f"unsupported axes {axes}: only height and width are")
    image = (x.shape[0], 1, 1, x.shape[3])
    made = out
    if out.shape != image:
        made = builder.helper(f"{out.name}_image", out, image)
    clamp = builder.bounds(None, out)
    attrs = PoolAttrs(kernel=size, strides=size, mean=True, clamp=clamp)
    builder.emit(Op.AVG_POOL, [x], made, attrs)
    if made is not out:
        builder.reshape(made, out)


def _add(builder: TfliteBuilder) -> None:
    a, b = builder.input(0, constant=True), builder.input(1, constant=True)
    out = builder.output()
    for tensor in (a, b):
        builder.require_int8(tensor)
    if a.data is not None:
        a, b = b, a
    same_rank = b.data is not None or len(a.shape) == len(b.shape)
    if not same_rank or not broadcasts_to((a.shape, b.shape), out.shape):
        raise builder.error(f"unsupported broadcast of {list(a.shape)} and {list(b.shape)}")
    builder.emit(Op.ADD, [a, b], out, AddAttrs(clamp=builder.clamp(out)))


# -- host operators ----------------------------------------------------------------------------


def _softmax(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    _probability(builder, out)
    beta = float(builder.operator.options.get("Beta", 1.0))
    builder.emit(Op.SOFTMAX, [x], out, SoftmaxAttrs(beta=beta))


def _logistic(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    _probability(builder, out)
    builder.emit(Op.LOGISTIC, [x], out, ReshapeAttrs())


def _probability(builder: TfliteBuilder, out: Tensor) -> None:
    """TFLite fixes the quantization of what lies between 0 and 1."""
    if out.quant is not None and (out.quant.scale[0] != 1 / 256 or out.quant.zero_point != -128):
        raise builder.error(f"tensor {out.name!r} must have scale 1/256 and zero point -128")


def _quantize(builder: TfliteBuilder) -> None:
    x, out = builder.input(0), builder.output()
    if out.quant is None:
        raise builder.error(f"tensor {out.name!r} is not quantized")
    builder.emit(Op.QUANTIZE, [x], out, QuantizeAttrs(clamp=(-128, 127)))


def _dequantize(builder: TfliteBuilder) -> None:
    raw = builder.raw_input(0)
    out = builder.output()
    if raw is not None and raw.data:  # weights kept in half precision
        values = builder.constant(0)
        if raw.dtype == "INT8" and raw.scale.size == 1:
            values = (values.astype(np.float32) - raw.zero_point[0]) * np.float32(raw.scale[0])
        elif raw.dtype != "FLOAT16":
            raise builder.error(f"unsupported constant {raw.name!r} of type {raw.dtype}")
        builder.fold(values.astype(np.float32))
        return
    x = builder.input(0)
    if x.quant is None:
        raise builder.error(f"tensor {x.name!r} is not quantized")
    builder.emit(Op.DEQUANTIZE, [x], out, ReshapeAttrs())


def _activation(builder: TfliteBuilder, bounds: tuple[float, float]) -> None:
    """An activation function that stands alone."""
    x, out = builder.input(0), builder.output()
    builder.require_int8(x)
    if x.quant is None:
        builder.fuse(x, out, bounds)
    else:
        attrs = QuantizeAttrs(activation=True, clamp=builder.bounds(bounds, out))
        builder.emit(Op.QUANTIZE, [x], out, attrs)


# -- states ------------------------------------------------------------------------------------


def state_name(operator: RawOperator) -> str:
    """The name of the variable that a VAR_HANDLE stands for."""
    parts = (operator.options.get(field) or b"" for field in ("Container", "SharedName"))
    return "/".join(part.decode() for part in parts if part)


def _var_handle(builder: TfliteBuilder) -> None:
    operator = builder.operator
    builder.resources[operator.outputs[0]] = state_name(operator)


def _state(builder: TfliteBuilder) -> StateAttrs:
    name = builder.resources.get(builder.operator.inputs[0])
    if name is None or name not in builder.states:
        raise builder.error("the variable has no initial value")
    return StateAttrs(state=name)


def _read_variable(builder: TfliteBuilder) -> None:
    attrs, out = _state(builder), builder.output()
    initial = builder.states[attrs.state]
    if initial.shape != out.shape or initial.dtype != out.dtype or out.unsigned:
        raise builder.error(f"variable {attrs.state!r} is {initial.dtype} {list(initial.shape)}")
    builder.emit(Op.READ_STATE, [], out, attrs)


def _assign_variable(builder: TfliteBuilder) -> None:
    attrs, x = _state(builder), builder.input(1)
    initial = builder.states[attrs.state]
    if initial.shape != x.shape or initial.dtype != x.dtype:
        raise builder.error(f"variable {attrs.state!r} is {initial.dtype} {list(initial.shape)}")
    builder.write_state(x, attrs)


def _nothing(builder: TfliteBuilder) -> None:
    """CALL_ONCE: its subgraph was read before."""


HANDLERS: dict[str, Callable[[TfliteBuilder], None]] = {
    **MOVES,
    "ADD": _add,
    "ASSIGN_VARIABLE": _assign_variable,
    "AVERAGE_POOL_2D": lambda builder: _pool(builder, Op.AVG_POOL),
    "CALL_ONCE": _nothing,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _logistic,
    "MAX_POOL_2D": lambda builder: _pool(builder, Op.MAX_POOL),
    "MEAN": _mean,
    "QUANTIZE": _quantize,
    "READ_VARIABLE": _read_variable,
    "RELU": lambda builder: _activation(builder, (0.0, np.inf)),
    "RELU6": lambda builder: _activation(builder, (0.0, 6.0)),
    "RELU_N1_TO_1": lambda builder: _activation(builder, (-1.0, 1.0)),
    "SOFTMAX": _softmax,
    "VAR_HANDLE": _var_handle,
}
