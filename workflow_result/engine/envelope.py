"""What queues and topics put around an operation message."""

from workflow_result import request as requests
from workflow_result.problem import ExitCode, Problem

PLACES = "stdin or in --input FILE"
"""Where `run` expects its message."""

_MOST_ENVELOPES = 4
"""A queue's, a topic's inside of it, and some more."""

_OWN_KEYS = {"token", "recordId", "operation"}
"""Those of a message, which no envelope has."""


def take_off(draft: requests.Draft) -> requests.Draft:
    """Return the message inside what SQS, a Lambda event source or SNS puts around it.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
    """
    for _ in range(_MOST_ENVELOPES):
        members, place = draft.members, ""
        if members.keys() & _OWN_KEYS:
            break
        for name in ("Messages", "Records"):
            items = members.get(name)
            if not isinstance(items, list):
                continue
            if len(items) != 1:
                count = "no message" if not items else f"{len(items)} messages"
                raise Problem(ExitCode.INVALID, f"the message: {name} holds {count}: one is needed")
            place = f"{name}[0]."
            members = items[0] if isinstance(items[0], dict) else {}
        if isinstance(members.get("Sns"), dict):
            place, members = f"{place}Sns.", members["Sns"]
        names = ["Body", "body"] + ["Message"] * (place.endswith("Sns.") or "TopicArn" in members)
        inside = next((name for name in names if isinstance(members.get(name), str)), None)
        if inside:
            draft = requests.read_object(
                members[inside].encode("utf-8", "surrogatepass"),
                f"the message in {place}{inside}",
                PLACES,
            )
        elif place:
            raise Problem(ExitCode.INVALID, f"the message: {place}Body is missing")
        else:
            break
    return draft
