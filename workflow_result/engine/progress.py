"""How far an apply is, in one line that is written over again and again on a terminal."""

import time
from collections.abc import Mapping
from typing import Any

from workflow_result.problem import on_terminal, say


class Progress:
    """Counts the changes of an apply, by its events, and shows what takes longest.

    https://developer.hashicorp.com/terraform/internals/machine-readable-ui#operation-messages
    """

    def __init__(self) -> None:
        self._total = 0
        self._done = 0
        self._under_way: dict[str, float] = {}

    def plan(self, changes: Any) -> None:
        """Take what a plan's `change_summary` says: how many changes there will be."""
        if isinstance(changes, Mapping) and changes.get("operation") == "plan":
            counts = (changes.get(kind) for kind in ("add", "change", "remove"))
            self._total = sum(int(n) for n in counts if isinstance(n, str) and n.isdecimal())
            self._done = 0
            self._under_way.clear()

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event of an apply. Whether it is shown here, and is not to be told besides."""
        kind = event["type"]
        if kind not in ("apply_start", "apply_progress", "apply_complete", "apply_errored"):
            return False
        hook = event.get("hook")
        resource = hook.get("resource") if isinstance(hook, dict) else None
        address = str(resource.get("addr")) if isinstance(resource, dict) else "?"
        if kind in ("apply_complete", "apply_errored"):
            self._done += 1
            self._under_way.pop(address, None)
        else:
            self._under_way.setdefault(address, time.monotonic())
        return kind == "apply_progress" and on_terminal()

    def show(self) -> None:
        """Show how far it is, where a terminal is looked at."""
        if not (self._under_way and on_terminal()):
            return
        address, begun = min(self._under_way.items(), key=lambda item: item[1])
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        text = f"  {self._done} of {self._total} done; {address} for {minutes}:{seconds:02}"
        if (others := len(self._under_way) - 1) > 0:
            text += f", and {others} more"
        say(text, end="\r")
