"""Make a table for a shared journal: `python -m benchmarks.make_table URL` prints its name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from ministack_server import Ministack
from tables import new_table

if __name__ == "__main__":
    print(new_table(Ministack(sys.argv[1], Path())).name)
