"""The networks on chip: circuit-switched routers and the registers between them."""
