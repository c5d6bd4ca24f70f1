"""Check a request with this many outputs, and print how many seconds that took.

`python -m benchmarks.check_outputs COUNT`. Without the start of Python and the imports, which
would hide a check that takes longer than in proportion.
"""

import gc
import json
import sys
import time

from workflow_result import request as requests


def request(outputs: int) -> bytes:
    """Return the JSON text of a request with this many outputs."""
    members = {
        "WorkflowToken": "965d4597-3088-41ae-87dc-3498daf1d69d",
        "RecordId": "rec-1",
        "Status": "SUCCEEDED",
        "Outputs": [
            {"OutputKey": f"name_{i}", "OutputValue": f"value {i}", "Description": "An output."}
            for i in range(outputs)
        ],
    }
    return json.dumps(members).encode()


def seconds(outputs: int) -> float:
    source = request(outputs)
    begin = time.perf_counter()
    requests.check(requests.decode(source, "provision"), "provision")
    return time.perf_counter() - begin


if __name__ == "__main__":
    gc.disable()  # as main.py does
    seconds(1)  # imports what is imported late
    print(seconds(int(sys.argv[1])))
