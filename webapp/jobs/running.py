"""What a worker holds: jobs under way, by the version that answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webapp.jobs.models import Job

if TYPE_CHECKING:
    from mlcore.engine import Engine
    from mlcore.predictor import Predictor


@dataclass
class Held:
    """A job under way: when it came, what was computed for it, what is known of its answer."""

    since: float
    model_time_s: float = 0.0
    rows: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    stored: float = 0.0  # when the parts were


@dataclass
class Running:
    """A version at work: its engine, jobs that wait for a slot, and those in it."""

    predictor: Predictor
    engine: Engine[Job]
    waiting: list[Job] = field(default_factory=list)
    held: dict[Any, Held] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """How many more jobs may come."""
        return self.engine.free_slots - len(self.waiting)

    @property
    def jobs(self) -> list[Job]:
        """All that this worker holds of this version."""
        return [*self.engine.rows, *self.waiting]
