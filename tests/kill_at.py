"""Runs main.py, and kills it with SIGKILL before or after one step of it.

    python kill_at.py before|after MODULE:FUNCTION[:TIMES] ARGUMENT...

The step is a function or a method of the program's, or of a library's, `TIMES` how often it has
been called by then. It is really called and the signal is a real one: only the moment is chosen.
"""

import functools
import importlib
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any


def kill_at(when: str, module: str, function: str, times: int) -> None:
    """Change `function` so that its call number `times` ends this process."""
    *path, name = function.split(".")
    owner: Any = functools.reduce(getattr, path, importlib.import_module(module))
    real = getattr(owner, name)
    calls = itertools.count(1)  # several threads may call it

    @functools.wraps(real)
    def deadly(*arguments: Any, **named: Any) -> Any:
        due = next(calls) == times
        if when == "before" and due:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if when == "after" and due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    when, step, *arguments = sys.argv[1:]
    module, function, *times = step.split(":")
    kill_at(when, module, function, int(times[0]) if times else 1)
    sys.argv = [str(root / "main.py"), *arguments]
    from workflow_result import main as run_program

    run_program()


if __name__ == "__main__":
    main()
