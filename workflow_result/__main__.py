"""`python -m workflow_result`."""

from workflow_result import main

main()
