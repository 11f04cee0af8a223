"""Finished jobs stay in a list on a service that lives as long as the process."""

from __future__ import annotations

HOLDER = "finished_jobs.SERVICE.finished"


class Service:
    """A service with slots."""

    __slots__ = ("finished",)

    def __init__(self) -> None:
        self.finished: list[dict[str, object]] = []

    def run(self, number: int) -> None:
        """Do a job."""
        log = ["line " * 20 + str(number + n) for n in range(40)]  # <- allocates
        self.finished.append({"number": number, "log": log})


SERVICE = Service()


def step(number: int) -> None:
    """Run one job."""
    SERVICE.run(number)
