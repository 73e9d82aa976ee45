"""The part that both Parsl executors share: evaluate a launch app in `submit`, start nothing there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar

from parsl.executors.base import ParslExecutor

from workflow.errors import CampaignError
from workflow.launch import Launch, is_launch


class LaunchExecutor(ParslExecutor):
    """A Parsl executor that starts what an app describes, and never runs an app's work itself.

    Parsl calls `submit` under a lock that every task shares, so nothing may take time there: the app's
    body is pure and gives a `Launch`; a thread of the subclass does the rest.
    """

    launch_type: ClassVar[type[Launch]] = Launch

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    @abstractmethod
    def enqueue(self, launch: Launch, future: Future[Any]) -> None:
        """Take over a launch; complete `future` later, from a thread of the executor's own."""

    def submit(self, func: Callable[..., Any], resource_specification: dict[str, Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Evaluate a launch app and hand what it describes to `enqueue`."""
        future: Future[Any] = Future()
        try:
            self.enqueue(self._launch(func, resource_specification, args, kwargs), future)
        except Exception as error:  # Parsl expects faults in the future, not out of `submit`
            future.set_exception(error)
        return future

    def _launch(self, func: Callable[..., Any], spec: dict[str, Any], args: Any, kwargs: Any) -> Launch:
        name = getattr(func, "__name__", repr(func))
        if not is_launch(func):
            raise CampaignError(
                f"'{name}' is an ordinary app", f"executor {self.label}", "Decorate it with @python_app over @launches."
            )
        if spec:
            raise CampaignError(
                f"'{name}' has a parsl_resource_specification", f"executor {self.label}", "Say sizes in the Launch."
            )
        launch = func(*args, **kwargs)
        if not isinstance(launch, self.launch_type):
            got = type(launch).__name__
            raise CampaignError(f"'{name}' returned {got}", f"executor {self.label}", f"Return a {self.launch_type.__name__}.")
        return launch
