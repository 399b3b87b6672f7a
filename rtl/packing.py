"""Descriptors as the 32-bit words of the configuration bus, and back."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import unsigned
from amaranth.lib import data

from rowmesh.rtl.layouts import CONFIG_BITS
from rowmesh.rtl.nest import Nest

__all__ = ["descriptor_values", "descriptor_words", "stored_values"]


def descriptor_words(layout: data.StructLayout, values: Mapping[str, Any]) -> list[int]:
    """Pack a descriptor into 32-bit configuration words.

    Parameters
    ----------
    layout
        Descriptor layout.
    values
        A value for every field; nested mappings and sequences for loops and listeners. Loops have
        strides (`Nest`), and so have the planes of the iact loader.

    Raises
    ------
    ValueError
        A field is missing, unknown or does not fit.
    """
    packed = _pack(layout, stored_values(layout, values), "")
    count = -(-layout.size // CONFIG_BITS)
    return [packed >> (CONFIG_BITS * i) & 0xFFFF_FFFF for i in range(count)]


def stored_values(layout: data.StructLayout, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a descriptor as hardware holds them: steps instead of strides."""
    stored = dict(values)
    for name, field in layout:
        if isinstance(field.shape, Nest) and name in stored:
            stored[name] = field.shape.store(stored[name], str(name))
    if "plane_step" in layout.members and "plane_stride" in stored:
        rows = max(0, stored["rows"] - 1)
        stored["plane_step"] = stored.pop("plane_stride") - rows * stored["row_stride"]
    return stored


def _pack(layout: Any, value: Any, path: str) -> int:
    if isinstance(layout, data.ArrayLayout):
        if len(value) != layout.length:
            raise ValueError(f"{path}: {len(value)} entries, not {layout.length}")
        size = layout.size // layout.length
        return sum(
            _pack(layout.elem_shape, item, f"{path}[{i}]") << (i * size)
            for i, item in enumerate(value)
        )
    if isinstance(layout, data.StructLayout):
        names = [name for name, _ in layout]
        if set(names) != set(value):
            wrong = sorted(set(names) ^ set(value))
            raise ValueError(f"{path or 'descriptor'}: missing or unknown fields {wrong}")
        return sum(
            _pack(field.shape, value[name], f"{path}.{name}".lstrip(".")) << field.offset
            for name, field in layout
        )
    shape = _shape(layout)
    width, number = int(shape.width), int(value)
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    high = (1 << (shape.width - shape.signed)) - 1
    if not low <= number <= high:
        raise ValueError(f"{path} = {number}: must be within {low}..{high}")
    return number & ((1 << width) - 1)


def _shape(shape: Any) -> Any:
    if isinstance(shape, int):
        return unsigned(shape)
    return shape


def descriptor_values(layout: Any, packed: int) -> Any:
    """Inverse of `descriptor_words`: nested dicts and lists of a packed descriptor's fields."""
    if isinstance(layout, data.ArrayLayout):
        size = layout.size // layout.length
        return [
            descriptor_values(layout.elem_shape, packed >> (i * size) & ((1 << size) - 1))
            for i in range(layout.length)
        ]
    if isinstance(layout, data.StructLayout):
        values = {
            name: descriptor_values(field.shape, packed >> field.offset & ((1 << field.width) - 1))
            for name, field in layout
        }
        if "plane_step" in values:
            rows = max(0, values["rows"] - 1)
            values["plane_stride"] = values.pop("plane_step") + rows * values["row_stride"]
        return layout.loops(values) if isinstance(layout, Nest) else values
    shape = _shape(layout)
    top = 1 << (shape.width - 1)
    return packed - 2 * top if shape.signed and packed & top else packed
