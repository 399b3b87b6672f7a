"""The error that every bad input ends in."""

__all__ = ["RowmeshError"]


class RowmeshError(ValueError):
    """Input that rowmesh refuses; the message is one readable line that names what is wrong."""
