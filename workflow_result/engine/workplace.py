"""The engine's workplace: what it does around a run, so that the artifact needs no change."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from workflow_result.account import Account
from workflow_result.engine import artifact
from workflow_result.engine.guard import Guard
from workflow_result.engine.launch_role import LaunchRole, NotAssumed, account_of
from workflow_result.engine.lock import StateLock
from workflow_result.engine.message import Message
from workflow_result.engine.order import StopRequests
from workflow_result.engine.product import ARTIFACT, Product
from workflow_result.engine.program import Failed
from workflow_result.engine.state_bucket import StateBucket
from workflow_result.engine.terraform import Settings, options_given
from workflow_result.problem import ExitCode, Problem, Style, say

_OVERRIDE = "~engine_override.tf.json"
"""Terraform merges override files in the order of their names, and the last one has its way
(https://developer.hashicorp.com/terraform/language/files/override)."""

_WAY_OUT = (
    "Where its resources are gone, or are to stay, an administrator can terminate it with the "
    "option to ignore errors (IgnoreErrors), which leaves them alone"
)

_OF_ONE_ORDER = ("TF_DATA_DIR", "TF_WORKSPACE")
"""Variables by which orders would share what is each one's own."""

_PATHS = ("TF_CLI_CONFIG_FILE", "TERRAFORM_CONFIG", "TF_PLUGIN_CACHE_DIR")
"""Variables that name files of this machine: in an order's folder they would be the artifact's."""


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise `Problem` (SETUP) where it would have Terraform keep states elsewhere."""
    for option in options_given(environment, "init"):
        if option in ("-backend-config", "-backend"):
            line = (
                f"{option} in TF_CLI_ARGS: where each product's state lies is the engine's to say"
            )
            raise Problem(ExitCode.SETUP, f"{line}; leave it out")


@dataclass(frozen=True)
class Facilities:
    """What the engine has for its orders.

    `bucket` keeps states, `account` gives the engine's credentials. Terraform is `program`, stopped
    after `timeout` seconds where that is not None; `lock_timeout` seconds are waited for a lock.
    `grace` is how many seconds a Terraform that outlives its run has for each step of its end.
    """

    bucket: str
    account: Account
    program: str
    timeout: int | None
    lock_timeout: int
    grace: int


class EngineWorkplace:
    """A `Workplace`: artifact, launch role, backend and lock for one order.

    `has_ended` is that of `StateLock`.
    """

    def __init__(self, facilities: Facilities, has_ended: Callable[[str], bool]) -> None:
        self._have = facilities
        self._has_ended = has_ended
        self._kept: Callable[[], None] = lambda: None

    @contextmanager
    def prepared(
        self, message: Message, stop_requests: StopRequests
    ) -> Iterator[tuple[Message, Settings] | None]:
        """See `Workplace.prepared`. None: a terminate of what was never applied."""
        with ExitStack() as stack:
            try:
                prepared = self._prepare(message, stop_requests, stack)
            except (artifact.Unfit, NotAssumed) as error:
                raise Failed(str(error).removesuffix(".")) from error
            except OSError as error:  # a full disk, for example
                line = f"the order cannot be prepared: {error.strerror or error}; nothing was run"
                raise Problem(ExitCode.NOT_DELIVERED, f"{message.record_id}: {line}") from error
            yield prepared

    def keep(self) -> None:
        """Keep artifact and parameters, for a terminate: its message has neither."""
        self._kept()

    def _prepare(
        self, message: Message, stop_requests: StopRequests, stack: ExitStack
    ) -> tuple[Message, Settings] | None:
        have = self._have
        if not message.launch_role:
            raise Failed(
                "The message names no launch role, without which nothing is run: add a launch "
                "constraint"
            )
        account_id = message.account_id or account_of(message.launch_role)
        key = f"{account_id}/{message.provisioned_product_id}"
        bucket = StateBucket(have.bucket, have.account)
        product = Product(bucket, key)
        is_terminate = message.operation == "terminate"
        if not is_terminate:
            product.mark(message.record_id)
        elif not (product.was_seen() or product.has_state()):
            raise Failed(
                f"This engine has never seen the product: there is no {key} in its state bucket "
                f"{have.bucket}. {_WAY_OUT}"
            )
        folder = Path(tempfile.mkdtemp(prefix="order-"))
        guard = Guard(folder, have.grace)
        stack.callback(guard.close)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        session = f"{message.provisioned_product_id}-{message.record_id}"
        role = LaunchRole(message.launch_role, session, have.account)
        role.assume()
        environment = role.write(folder)
        stack.callback(role.close)
        content = folder / "product"
        configuration = content / ARTIFACT
        if not is_terminate:
            content.mkdir()
            artifact.fetch(
                role.client("s3", have.account.region), message.artifact or "", configuration
            )
        lock = StateLock(bucket, key, message.record_id, folder, self._has_ended)
        lock.take(have.lock_timeout, stop_requests)
        stack.callback(lock.release)
        if is_terminate:
            parameters, has_state = product.fetch(content), product.has_state()
            if parameters is not None and not has_state:  # Terraform writes one whatever happens
                raise Failed(
                    f"There is no state {key} in the engine's state bucket, though Terraform was "
                    f"at work: what it has made is not known. {_WAY_OUT}"
                )
            if parameters is not None:
                message = replace(message, parameters=parameters)
            elif has_state:  # of an engine that kept no artifacts
                configuration.mkdir(parents=True)
            else:
                say("it was never applied: there is nothing to destroy", Style.BOLD)
                return None
        else:
            self._kept = lambda: product.keep(content, message.parameters)
        self._override(configuration, key)
        for name in _OF_ONE_ORDER:
            environment.pop(name, None)
        environment |= {n: os.path.abspath(environment[n]) for n in _PATHS if environment.get(n)}
        return message, Settings(
            configuration,
            have.program,
            have.timeout,
            have.lock_timeout,
            environment=environment,
            watch=guard.watch,
            unchanged=partial(self._take_back, product),
        )

    def _take_back(self, product: Product) -> None:
        """Forget what was kept where it is of no product yet: else a terminate would miss one."""
        try:
            product.take_back()
        except Problem as problem:
            say(f"warning: what was kept stays: {problem.lines[0]}", Style.YELLOW)

    def _override(self, configuration: Path, key: str) -> None:
        """Write the backend: the engine's, with its own lock, whatever the artifact says."""
        backend = {
            "bucket": self._have.bucket,
            "key": key,
            "region": self._have.account.region,
            "profile": "engine",
        }  # without `encrypt`, which means AES256: so the bucket's own key encrypts it
        file = configuration / _OVERRIDE
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        file.unlink(missing_ok=True)
        file.write_text(json.dumps({"terraform": {"backend": {"s3": backend}}}))
        overrides = [
            found.name
            for pattern in ("*override.t*", "*override.tofu*")
            for found in configuration.glob(pattern)
        ]
        last = max(overrides, key=str.encode)
        if last != _OVERRIDE:
            raise Failed(f"The artifact's {last} would take the place of the engine's backend")
