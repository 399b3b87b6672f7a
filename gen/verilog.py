"""Amaranth to Verilog with every distinct module written once.

Amaranth writes a module for every instance, so 192 equal PEs become 192 modules. Two things
together make generation, simulator build and synthesis cost what the *distinct* modules cost:

1. **Sharing**: while a design is elaborated, a component that equals one already seen (same class,
   same parameters) is not elaborated again; its place is taken by an `Instance` of the first one.
2. **Folding**: modules that came out equal in the RTLIL all the same (a FIFO in two places) are
   merged, from the leaves up, and get clean names.

Components need nothing for it, and Amaranth's own simulator sees the ordinary design.
"""

import contextlib
import dataclasses
import enum
import functools
import gc
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil  # type: ignore[attr-defined]
from amaranth.hdl import ClockSignal, Elaboratable, Fragment, Instance, ResetSignal, Shape, Value
from amaranth.hdl._ir import PortDirection
from amaranth.hdl._xfrm import DomainRenamer, TransformedElaboratable
from amaranth.lib import data, wiring

from rowmesh.gen.rtlil_fold import CLOCK_PORTS, Module, fold

__all__ = ["emit", "emit_rtlil", "instance_counts"]

#: What those ports are connected to.
_CLOCK_PORTS: dict[str, Callable[[], Value]] = dict(
    zip(CLOCK_PORTS, (lambda: ClockSignal("sync"), lambda: ResetSignal("sync")), strict=True)
)

_Ports = dict[str, tuple[Value, PortDirection]]


class _NotShareable(Exception):
    """The component holds something that cannot be compared by value."""


# -- sharing ------------------------------------------------------------------------------------


def _key(value: Any, depth: int = 0) -> Hashable:
    """Value of an attribute as something hashable: equal keys elaborate to equal hardware.

    Raises
    ------
    _NotShareable
        The value is a signal or another component (so the place in the design matters), or a
        kind of object that is not known.
    """
    if depth > 12:
        raise _NotShareable
    if value is None or isinstance(value, bool | int | float | str | bytes | type | enum.Enum):
        return (type(value), value)

    def key(item: Any) -> Hashable:
        return _key(item, depth + 1)

    if isinstance(value, Value | Elaboratable | data.View | data.Const | wiring.PureInterface):
        raise _NotShareable
    if isinstance(value, wiring.Signature):
        return (type(value), tuple((name, key(value.members[name])) for name in value.members))
    if isinstance(value, wiring.Member):
        content = value.signature if value.is_signature else value.shape
        init = None if value.is_signature else repr(getattr(value, "init", None))
        return (value.flow, value.dimensions, key(content), init)
    if isinstance(value, data.Layout):
        parts = tuple((name, field.offset, key(field.shape)) for name, field in value)
        return (type(value), Shape.cast(value).width, parts)
    if isinstance(value, Shape):
        return (Shape, value.width, value.signed)
    if isinstance(value, range):
        return (range, value.start, value.stop, value.step)
    if isinstance(value, tuple | list):
        return (type(value), tuple(key(item) for item in value))
    if isinstance(value, Mapping):
        return (type(value), tuple((key(k), key(v)) for k, v in value.items()))
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return (type(value), tuple(key(getattr(value, field.name)) for field in fields))
    if type(value).__module__.startswith("rowmesh.") and hasattr(value, "__dict__"):
        # A plain helper object, such as the layouts of a configuration. What it caches lazily
        # follows from the rest.
        return (type(value), key(_own_attributes(value)))
    raise _NotShareable


def _own_attributes(value: object) -> dict[str, Any]:
    cached = {
        name
        for cls in type(value).__mro__
        for name, member in vars(cls).items()
        if isinstance(member, functools.cached_property)
    }
    return {name: item for name, item in sorted(vars(value).items()) if name not in cached}


def _component_key(component: "wiring.Component[Any]") -> Hashable:
    attributes = _own_attributes(component)
    for name in component.signature.members:
        attributes.pop(name, None)
    attributes.pop("_Component__signature", None)
    for name in [name for name in attributes if name.startswith("_MustUse")]:
        del attributes[name]
    return (type(component), _key(component.signature), _key(attributes))


def _ports(component: "wiring.Component[Any]") -> _Ports:
    ports: _Ports = {}
    for path, member, value in component.signature.flatten(component):
        if not isinstance(value, Value):
            value = Value.cast(value)
        direction = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["__".join(map(str, path))] = (value, direction)
    return ports


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class _Sharing:
    """Converts each distinct component of a design to RTLIL once.

    Attributes
    ----------
    texts : list of str
        RTLIL of the designs converted so far.
    """

    def __init__(self, platform: Any = None) -> None:
        self.texts: list[str] = []
        self._platform = platform
        self._names: dict[Hashable, tuple[str, list[str]]] = {}
        self._elaborate: Callable[[Any, Any], Fragment] = Fragment.get
        self._plain = 0

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let elaboration go through this object."""
        original = Fragment.__dict__["get"]
        setattr(Fragment, "get", staticmethod(self._get))  # noqa: B010
        try:
            yield
        finally:
            setattr(Fragment, "get", original)  # noqa: B010

    def convert(self, component: "wiring.Component[Any]", name: str) -> set[str]:
        """Convert one component, its equal parts shared; return the names of its clock ports."""
        ports = _ports(component)
        fragment = self._elaborate(component, self._platform)
        text, _ = rtlil.convert_fragment(fragment, ports, name, emit_src=False)
        found = set(Module.split(text)[name].ports())
        extra = found - set(ports)
        if not extra <= set(_CLOCK_PORTS):
            raise ValueError(
                f"module {name}: signals {sorted(extra - set(_CLOCK_PORTS))} come from outside "
                "its ports (a clock domain other than sync, or a signal of another component)"
            )
        self.texts.append(text)
        return extra

    def _get(self, obj: Any, platform: Any) -> Fragment:
        if isinstance(obj, wiring.Component) and not self._plain:
            try:
                key = _component_key(obj)
            except _NotShareable:
                return self._elaborate(obj, platform)
            return self._instance(obj, key)
        if isinstance(obj, TransformedElaboratable) and not all(
            isinstance(transform, DomainRenamer) for transform in obj._transforms_
        ):
            # ResetInserter and EnableInserter must reach the registers: no instances below.
            self._plain += 1
            try:
                return self._elaborate(obj, platform)
            finally:
                self._plain -= 1
        return self._elaborate(obj, platform)

    def _instance(self, component: "wiring.Component[Any]", key: Hashable) -> Fragment:
        if key not in self._names:
            name = f"{_snake(type(component).__name__)}${len(self._names)}"
            # Claim the number first: converting the parts takes the next ones.
            self._names[key] = (name, [])
            self._names[key] = (name, sorted(self.convert(component, name)))
        component._MustUse__used = True  # type: ignore[attr-defined]
        name, clocks = self._names[key]
        connections: list[tuple[str, str, Any]] = [("i", c, _CLOCK_PORTS[c]()) for c in clocks]
        for port, (value, direction) in _ports(component).items():
            connections.append(("i" if direction is PortDirection.Input else "o", port, value))
        return Instance(name, *connections)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cyclic garbage: it takes a fifth of the time and finds next to nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# -- the two ways out ---------------------------------------------------------------------------


def emit_rtlil(component: "wiring.Component[Any]", name: str, platform: Any = None) -> str:
    """Convert a component to RTLIL in which each distinct module appears once.

    Parameters
    ----------
    component
        What to convert; only the clock domain ``sync`` (ports ``clk`` and ``rst``) is allowed.
    name : str
        Name of the top module.
    platform : object, optional
        What `elaborate` is given: an FPGA (see `rowmesh.rtl.spad`), or nothing.

    Returns
    -------
    str
        RTLIL, submodules before the modules that use them. The same component gives the same
        bytes.

    Raises
    ------
    ValueError
        A component uses a signal or a clock domain that does not come in through its ports.
    """
    sharing = _Sharing(platform)
    with _no_collection(), sharing.active():
        sharing.convert(component, name)
    return fold("\n".join(sharing.texts), name)


def emit(component: "wiring.Component[Any]", name: str, platform: Any = None) -> str:
    """Convert a component to Verilog in which each distinct module appears once.

    Stream and other interface ports become flat ports: ``iact__payload``, ``iact__valid``.

    Parameters
    ----------
    component
        What to convert; only the clock domain ``sync`` (ports ``clk`` and ``rst``) is allowed.
    name : str
        Name of the top module.
    platform : object, optional
        See `emit_rtlil`.

    Returns
    -------
    str
        Verilog 2001. The same component gives the same bytes.

    Raises
    ------
    ValueError
        A component uses a signal or a clock domain that does not come in through its ports.
    """
    yosys: Any = find_yosys(lambda version: version >= (0, 40))  # type: ignore[no-untyped-call]
    removed = "-remove generator -remove top -remove src"
    script = [
        f"read_rtlil <<rtlil\n{emit_rtlil(component, name, platform)}\nrtlil",
        "proc -nomux -norom",
        "memory_collect",
        f"attrmap {removed}",
        f"attrmap -modattr {removed}",
        "write_verilog -norename",
    ]
    # Yosys warns that not every process can be written; Amaranth makes only those that can.
    text: str = yosys.run(["-q", "-"], "\n".join(script), ignore_warnings=True)
    # The first line names the Yosys build: the text must depend on the design alone.
    return re.sub(r"\A/\* Generated by .*?\*/\n", "/* Generated by rowmesh */\n", text)


def instance_counts(rtlil_text: str, top: str) -> dict[str, int]:
    """How often each module of a folded RTLIL text occurs in the whole design.

    Parameters
    ----------
    rtlil_text : str
        What `emit_rtlil` returns.
    top : str
        Name of the top module.

    Returns
    -------
    dict
        Module name to count, from the top down; the top counts 1.
    """
    modules = Module.split(rtlil_text)
    counts: Counter[str] = Counter({top: 1})
    # The text lists children first, so its reverse visits every user before what it uses.
    for name in reversed(modules):
        for child in modules[name].children():
            if child in modules:
                counts[child] += counts[name]
    return dict(counts)
