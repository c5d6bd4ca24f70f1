"""The plugin cache that runs share: one `init` at a time."""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template

from workflow_result.engine import hcl

_PAUSE = 0.1


@contextmanager
def alone_in_cache(
    environment: Mapping[str, str], is_stopped: Callable[[], bool]
) -> Iterator[None]:
    """Let no other run of this machine use Terraform's plugin cache meanwhile, where it has one.

    Terraform does not say that two can
    (https://developer.hashicorp.com/terraform/cli/config/config-file#provider-plugin-cache). Where
    it cannot be locked, or the run `is_stopped`, nobody is waited for.
    """
    folder = environment.get("TF_PLUGIN_CACHE_DIR") or _configured(environment)
    try:
        file = Path(folder, ".lock").open("wb") if folder else None  # noqa: SIM115 - closed below
    except OSError:
        file = None
    if file is None:
        yield
        return
    with file:
        while not is_stopped():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError:  # a network's file system may have none
                break
        yield


def _configured(environment: Mapping[str, str]) -> str | None:
    """Return the first `plugin_cache_dir` of the CLI configuration, or None."""
    for file in _files(environment):
        # The file is HCL or JSON, whatever its name is.
        with suppress(OSError, ValueError, AttributeError):
            text = file.read_bytes()
            given: object = None
            if text.lstrip().startswith(b"{"):
                given = json.loads(text).get("plugin_cache_dir")
            else:
                for name, value in hcl.attributes(hcl.parse(text)):
                    if name == "plugin_cache_dir":
                        given = json.loads(value.read())
            if isinstance(given, str) and given:
                return Template(given).safe_substitute(environment)
    return None


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of the CLI configuration
    (https://developer.hashicorp.com/terraform/cli/config/config-file#locations)."""
    named = environment.get("TF_CLI_CONFIG_FILE") or environment.get("TERRAFORM_CONFIG")
    if named:
        yield Path(named)
    elif home := environment.get("HOME"):
        for name in (".tofurc", ".terraformrc"):
            yield Path(home, name)
        yield from sorted(Path(home, ".terraform.d").glob("*.tfrc*"))
