#!/usr/bin/env python3
"""Tell AWS Service Catalog how a Terraform run ended.

The program itself is the package `workflow_result` beside this file; start
reading at `workflow_result/cli/__init__.py`, which has the commands; docs/architecture.md walks
through the rest.
"""

import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "main.py needs Python 3.11 or later; %s is %d.%d\n"
        % (sys.executable, sys.version_info[0], sys.version_info[1])
    )
    sys.exit(78)

try:
    from workflow_result import main
except ImportError as error:
    sys.stderr.write("main.py needs the folder workflow_result beside it: %s\n" % error)
    sys.exit(78)

if __name__ == "__main__":
    main()
