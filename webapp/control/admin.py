"""Everything that the admin shows, registered where Django looks for it."""

from webapp.control import operations, people, versions, work

__all__ = ["operations", "people", "versions", "work"]
