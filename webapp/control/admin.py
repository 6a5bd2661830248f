"""Everything that the admin shows, registered where Django looks for it."""

from webapp.control import operations, versions, work

__all__ = ["operations", "versions", "work"]
