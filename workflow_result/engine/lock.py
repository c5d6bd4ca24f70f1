"""The lock of a product's state, as Terraform's S3 backend has it, taken by the engine itself.

So the engine knows whose lock it is: it names the record, and the journal knows whether that one's
run is alive. A person's `terraform` with `use_lockfile` waits for it, and `terraform force-unlock`
removes it (https://developer.hashicorp.com/terraform/language/backend/s3#state-locking).
"""

import getpass
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Sized
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workflow_result.engine.guard import is_guarded
from workflow_result.engine.program import Failed
from workflow_result.engine.state_bucket import Object, StateBucket
from workflow_result.problem import ExitCode, Problem, Style, printable, say

_INFO = re.compile(r"Service Catalog record ([a-zA-Z0-9_-]+), in (/.*) on (\S*)", re.S)

_PAUSE = 2.0
"""Seconds between two looks at a lock that somebody else has."""

_SHORT_PAUSE = 0.2
"""The same of one that seems to be gone."""


class StateLock:
    """The lock of the state under `key`, for the run of `record_id`.

    `folder` is where it works: as long as a guard watches over it, the run's Terraform may live.
    `has_ended` says whether the run of a record has, on whatever machine it was, by what the
    journal knows; of this record, an earlier one.
    """

    def __init__(
        self,
        bucket: StateBucket,
        key: str,
        record_id: str,
        folder: Path,
        has_ended: Callable[[str], bool],
    ) -> None:
        self._bucket = bucket
        self._state = key
        self._key = f"{key}.tflock"
        self._record_id = record_id
        self._folder = folder
        self._has_ended = has_ended
        self._etag: str | None = None

    def take(self, patience: float, stop_requests: Sized) -> None:
        """Take it; wait `patience` seconds for it at the most, and no longer than is asked for.

        Raises `Failed` where somebody else has it still, `Problem` where S3 cannot be asked, or
        says that it is neither free nor there.
        """
        deadline = time.monotonic() + patience
        ours = self._content()
        told = False
        while True:
            if stop_requests:
                raise Failed("Terraform was not started: it was stopped while it waited for a lock")
            self._etag = self._bucket.put(self._key, ours, if_absent=True)
            if self._etag:
                return
            held = self._bucket.get(self._key)
            if held is None:  # it was given up this moment, or S3 is of two minds
                if time.monotonic() > deadline + _PAUSE:
                    line = f"the lock {self._key} cannot be taken, and is not there"
                    raise Problem(ExitCode.NOT_DELIVERED, f"{line}; nothing was applied")
                time.sleep(_SHORT_PAUSE)
                continue
            if held.body == ours:  # the answer to a first attempt was lost
                self._etag = held.etag
                return
            holder = _Holder(held)
            if self._is_left_behind(holder):
                say(f"taking over a lock that nobody holds any more: {holder}", Style.YELLOW)
                self._etag = self._bucket.put(self._key, ours, instead_of=held.etag)
                if self._etag:
                    return
                continue
            if time.monotonic() >= deadline:
                raise Failed(f"The state of this product is locked: {holder}")
            if not told:
                say(f"waiting for the lock of the state: {holder}", Style.YELLOW)
                told = True
            time.sleep(min(_PAUSE, max(deadline - time.monotonic(), 0.05)))

    def release(self) -> None:
        """Give it up. Where that fails, the next run takes it over: a warning."""
        if self._etag is None:
            return
        try:
            self._bucket.delete(self._key, self._etag)
        except Problem as problem:
            say(f"warning: the lock of the state stays: {problem.lines[0]}", Style.YELLOW)
        self._etag = None

    def _is_left_behind(self, holder: "_Holder") -> bool:
        if holder.record_id is None or holder.is_guarded():
            return False
        if holder.record_id == self._record_id and holder.is_here():
            return True  # the journal let this run begin
        return self._has_ended(holder.record_id)

    def _content(self) -> bytes:
        """`statemgr.LockInfo` in JSON, as Terraform writes and reads it."""
        host = socket.gethostname()
        user = str(os.getuid())
        with suppress(Exception):  # a user without a name
            user = getpass.getuser()
        lock = {
            "ID": str(uuid.uuid4()),
            "Operation": "OperationTypeApply",
            "Info": f"Service Catalog record {self._record_id}, in {self._folder} on {host}",
            "Who": f"{user}@{host}",
            "Version": "",
            "Created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "Path": f"{self._bucket.name}/{self._state}",
        }
        return json.dumps(lock).encode()


class _Holder:
    """Who has a lock, as far as it says. `record_id` is None where no run of the engine has it."""

    def __init__(self, held: Object) -> None:
        self._values: dict[str, Any] = {}
        with suppress(ValueError):
            values = json.loads(held.body)
            self._values = values if isinstance(values, dict) else {}
        info = _INFO.fullmatch(str(self._values.get("Info")))
        self.record_id: str | None = info[1] if info else None
        self._folder: str = info[2] if info else ""
        self._host: str = info[3] if info else ""

    def is_here(self) -> bool:
        """Whether its run was on this machine."""
        return self._host == socket.gethostname()

    def is_guarded(self) -> bool:
        """Whether its Terraform may still be there, on this machine, though its run is gone."""
        return self.is_here() and is_guarded(self._folder)

    def __str__(self) -> str:
        if self.record_id:
            what = f"an order under way, record {self.record_id}"
        else:
            what = f"Terraform elsewhere, {self._values.get('Operation') or 'operation unknown'}"
        who = self._values.get("Who") or "somebody"
        since = self._values.get("Created") or "an unknown time"
        lock_id = self._values.get("ID") or "none"
        return printable(f"{what}, by {who} since {since}, lock ID {lock_id}")
