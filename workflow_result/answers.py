"""What comes back is looked at before botocore goes by it: handlers for its events."""

from typing import Any

from workflow_result.undelivered import NotAnAnswer, is_throttled

REQUEST_IDS = ("x-amzn-RequestId", "x-amz-request-id")
"""The headers in which botocore finds AWS's ID of a request (botocore/parsers.py)."""


def check_answer(http_response: Any, **_: Any) -> None:
    """Raise `NotAnAnswer` for a success that is none of AWS (`after-call`)."""
    # botocore does not look at the body where an operation has no output: to it a proxy's web
    # page and half an answer are successes, as long as their status is 200. AWS API reference:
    # "If the action is successful, the service sends back an HTTP 200 response with an empty
    # HTTP body", which is an empty object in its JSON protocol. A request ID comes with every
    # answer of AWS, and with none of a proxy.
    body, status = http_response.content, http_response.status_code
    length = http_response.headers.get("Content-Length", str(len(body)))
    is_empty = body.strip() in (b"", b"{}") and length == str(len(body))
    has_id = any(name in http_response.headers for name in REQUEST_IDS)
    if status < 300 and not (status == 200 and is_empty and has_id):
        raise NotAnAnswer(f"what answered at {http_response.url} is not AWS, or broke off")


def of_aws_alone(client: Any) -> Any:
    """Have each call of a client of boto3's raise `NotAnAnswer` for what is no answer of AWS.

    Returns the client.
    """
    client.meta.events.register("after-call", _check_origin)
    return client


def _check_origin(http_response: Any, **_: Any) -> None:
    # A proxy's web page would count as an answer with nothing in it: an empty queue, a write that
    # was done; its 404 as that of an object that is not there.
    if not any(name in http_response.headers for name in REQUEST_IDS):
        raise NotAnAnswer("what answered is not AWS")


def leave_throttled(response: tuple[Any, dict[str, Any]] | None, **_: Any) -> bool | None:
    """Have botocore not repeat a call that was throttled (`needs-retry`, before its own handler:
    the first answer that is not None counts)."""
    return False if response and is_throttled(response[1]) else None
