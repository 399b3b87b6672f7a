"""All routers of one cluster."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import Out, connect, flipped

from rowmesh.rtl.config import Config
from rowmesh.rtl.layouts import Layouts
from rowmesh.rtl.noc.iact_router import IactRouter
from rowmesh.rtl.noc.psum_router import PsumRouter
from rowmesh.rtl.noc.weight_router import WeightRouter

__all__ = ["RouterCluster"]

IACT_PORTS = (
    "desc",
    "local",
    "north_i",
    "south_i",
    "west_i",
    "east_i",
    "north_o",
    "south_o",
    "west_o",
    "east_o",
)
WEIGHT_PORTS = ("desc", "local", "west_i", "east_i", "west_o", "east_o")
PSUM_PORTS = ("desc", "pe", "bank", "north_o", "south_i", "chain")


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
    Cuts no path: every link of the mesh needs a `Hop` outside.
    """

    def __init__(self, config: Config) -> None:
        self.config = c = config
        layouts = Layouts(c)
        members: dict[str, Any] = {
            "iact_pe": Out(stream.Signature(layouts.iact_beat)).array(
                c.glb_iact_banks, c.pes_per_cluster
            ),
            "weight_pe": Out(stream.Signature(layouts.weight_beat)).array(c.pe_rows, c.pe_cols),
            "iact_busy": Out(c.glb_iact_banks),
            "weight_busy": Out(c.pe_rows),
            "psum_busy": Out(c.pe_cols),
        }
        for kind, (router, count, ports) in self._kinds().items():
            ports_of = router.members(c)
            for port in ports:
                members[f"{kind}_{port}"] = ports_of[port].array(count)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for kind, (router, count, ports) in self._kinds().items():
            for i in range(count):
                m.submodules[f"{kind}_{i}"] = unit = router(self.config)
                m.d.comb += getattr(self, f"{kind}_busy")[i].eq(unit.busy)
                for port in ports:
                    outside = getattr(self, f"{kind}_{port}")[i]
                    connect(m, getattr(unit, port), flipped(outside))
                if kind != "psum":
                    for tap, outside in zip(unit.pe, getattr(self, f"{kind}_pe")[i], strict=True):
                        connect(m, tap, flipped(outside))
        return m

    def _kinds(self) -> dict[str, tuple[type[Any], int, tuple[str, ...]]]:
        """Class, number and scalar ports of the routers of each network."""
        c = self.config
        return {
            "iact": (IactRouter, c.glb_iact_banks, IACT_PORTS),
            "weight": (WeightRouter, c.pe_rows, WEIGHT_PORTS),
            "psum": (PsumRouter, c.pe_cols, PSUM_PORTS),
        }
