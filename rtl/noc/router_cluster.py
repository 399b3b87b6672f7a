"""All routers of one cluster."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from rowmesh.rtl.config import Config
from rowmesh.rtl.noc.iact_router import IactRouter
from rowmesh.rtl.noc.psum_router import PsumRouter
from rowmesh.rtl.noc.weight_router import WeightRouter

__all__ = ["RouterCluster"]


class RouterCluster(wiring.Component):
    """The routers of a cluster side by side; they do not know each other.

    Parameters
    ----------
    config : Config
        Sizes of the machine.

    Attributes
    ----------
    iact_* : arrays of `glb_iact_banks`
        Ports of every `IactRouter`; `iact_pe` is an array (router, PE).
    weight_* : arrays of `pe_rows`
        Ports of every `WeightRouter`; `weight_pe` is an array (PE row, PE column).
    psum_* : arrays of `pe_cols`
        Ports of every `PsumRouter`.
    iact_busy, weight_busy, psum_busy : Out, one bit a router
        Circuits held.

    Notes
    -----
    Routers of iacts and weights cut every path; links of psums need a `Skid` outside.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(self.members(config))

    @staticmethod
    def members(config: Config) -> dict[str, Any]:
        """Ports of the routers of one cluster."""
        result: dict[str, Any] = {}
        for kind, (router, count) in _routers(config).items():
            for port, member in router.members(config).items():
                if port == "busy":
                    result[f"{kind}_busy"] = Out(count)
                else:
                    result[f"{kind}_{port}"] = member.array(count)
        return result

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for kind, (router, count) in _routers(self.config).items():
            for i in range(count):
                m.submodules[f"{kind}_{i}"] = unit = router(self.config)
                m.d.comb += getattr(self, f"{kind}_busy")[i].eq(unit.busy)
                for port in router.members(self.config):
                    if port != "busy":
                        _connect(m, getattr(unit, port), getattr(self, f"{kind}_{port}")[i])
        return m


def _routers(config: Config) -> dict[str, tuple[type[Any], int]]:
    """Class and number of the routers of each network."""
    return {
        "iact": (IactRouter, config.glb_iact_banks),
        "weight": (WeightRouter, config.pe_rows),
        "psum": (PsumRouter, config.pe_cols),
    }


def _connect(m: Module, inside: Any, outside: Any) -> None:
    """Connect a stream, or an array of them, to the outer ports."""
    if isinstance(inside, list | tuple):
        for one, other in zip(inside, outside, strict=True):
            _connect(m, one, other)
    else:
        connect(m, inside, flipped(outside))
