"""The plugin cache that runs share: one `init` at a time."""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PAUSE = 0.1


@contextmanager
def alone_in_cache(
    environment: Mapping[str, str], is_stopped: Callable[[], bool]
) -> Iterator[None]:
    """Let no other run of this machine use the folder TF_PLUGIN_CACHE_DIR meanwhile, where it is.

    Terraform does not say that two can
    (https://developer.hashicorp.com/terraform/cli/config/config-file#provider-plugin-cache). Where
    it cannot be locked, or the run `is_stopped`, nobody is waited for.
    """
    folder = environment.get("TF_PLUGIN_CACHE_DIR")
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
