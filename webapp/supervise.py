"""supervisord, but a hang-up ends it: its own way, a restart, could not open the output of a terminal that is gone."""

from __future__ import annotations

import signal
from typing import Any

from supervisor import supervisord
from supervisor.options import ServerOptions


class Options(ServerOptions):  # type: ignore[misc]
    """Those of supervisord."""

    def setsignals(self) -> None:
        """Take a hang-up for a wish to stop."""
        super().setsignals()
        signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, *_: Any) -> None:
        self.signal_receiver.receive(signal.SIGTERM, None)


if __name__ == "__main__":
    supervisord.ServerOptions = Options
    supervisord.main()
