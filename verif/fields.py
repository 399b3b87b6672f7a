"""Payloads as bits and as fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Const, Shape
from amaranth.lib import data

__all__ = ["Fields", "pack", "unpack"]

#: Anything that `pack` takes: an integer, or fields of such.
Fields = int | Mapping[Any, Any] | Sequence[Any]


def _layout(shape: Any) -> data.Layout | None:
    """The layout of a shape, or None when it is a plain number."""
    if isinstance(shape, data.Layout):
        return shape
    if isinstance(shape, Mapping):
        return data.StructLayout(dict(shape))
    if isinstance(shape, type) and issubclass(shape, data.Struct | data.Union):
        return data.Layout.cast(shape)
    return None


def pack(layout: Any, fields: Fields) -> int:
    """Put fields into the bits of a payload.

    Parameters
    ----------
    layout
        Amaranth shape: a layout, a struct class, a number of bits, or a dict of shapes.
    fields
        An integer for a number, a mapping (missing fields are 0) for a struct, a sequence for an
        array. An integer for a layout is taken as its bits.

    Returns
    -------
    int
        The payload, not negative.

    Raises
    ------
    ValueError
        A value does not fit, or a field does not exist.
    """
    found = _layout(layout)
    if found is None:
        shape = Shape.cast(layout)
        if not isinstance(fields, int):
            raise ValueError(f"{fields!r}: must be an integer")
        value = int(fields)
        low = -(1 << (shape.width - 1)) if shape.signed and shape.width else 0
        if not low <= value < low + (1 << shape.width):
            raise ValueError(f"{value} does not fit {shape!r}")
        return value & ((1 << shape.width) - 1)
    if isinstance(fields, int):
        width = Shape.cast(found).width
        if not 0 <= fields < 1 << width:
            raise ValueError(f"{fields} does not fit {width} bits")
        return int(fields)
    items = fields.items() if isinstance(fields, Mapping) else enumerate(fields)
    result = 0
    for key, value in items:
        try:
            field = found[key]
        except KeyError:
            raise ValueError(f"no field {key!r} in {found!r}") from None
        result |= pack(field.shape, value) << field.offset
    return result


def unpack(layout: Any, bits: int) -> Any:
    """Take the bits of a payload apart: the inverse of `pack`.

    Returns
    -------
    int, dict or list
        By the kind of layout; signed numbers are signed.
    """
    found = _layout(layout)
    if found is None:
        shape = Shape.cast(layout)
        return Const(bits, shape).value
    parts = {}
    for key, field in found:
        parts[key] = unpack(field.shape, bits >> field.offset & ((1 << field.width) - 1))
    return list(parts.values()) if isinstance(found, data.ArrayLayout) else parts
