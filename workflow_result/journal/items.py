"""What an item of the table means, and how a record is written as one.

`record` is the key, `<destination>#<RecordId>`. `version` counts the writes, `by` names the last
one. The index `due` has the items that are not reported, by `destination` and by `due_at`, when
they may have to be sent. Whoever works on one is its `owner` until `lease`. `body` holds the
request, WorkflowToken and all; no index has it. `expires` is when DynamoDB may delete what was
reported, or struck off. Times are in seconds since 1970.
"""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from workflow_result.journal.record import (
    RETURN_SECONDS,
    Key,
    Phase,
    Record,
    Reported,
    State,
    Work,
    Worker,
)

KEEP_SECONDS = 90 * 24 * 60 * 60
"""For how long it is known that a result was reported, or something struck off."""

NEVER = 10**12
"""`due_at` of what `moves.claim` has nothing to do for: what waits, or was refused."""

ATTRIBUTES = (
    *("version", "by", "state", "operation", "status", "digest", "idempotency_token", "region"),
    *("since", "tries", "last_error", "phase", "owner", "lease", "destination", "due_at", "body"),
    *("reported", "expires"),
)
"""All but the key."""

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True)
class Item:
    """A record as it is in the table: `version` is 0 where it is not there.

    `owner` works on it until `lease`.
    """

    record: Record
    version: int = 0
    by: str = ""
    owner: str | None = None
    lease: float = 0

    @property
    def is_own(self) -> bool:
        """Whether this process works on it."""
        return self.record.work is not None and self.record.work.worker == Worker.OWN


def item_key(key: Key) -> dict[str, Any]:
    """Return the primary key of a record's item."""
    return {"record": {"S": f"{key.destination}#{key.record_id}"}}


def query(destination: str, until: float) -> dict[str, Any]:
    """Return the parameters of a `Query` for what is due by `until`, and by `NEVER`: that is all
    which is not reported.

    It names both keys of the index, so that DynamoDB says where one is wrong.
    """
    return {
        "IndexName": "due",
        "KeyConditionExpression": "#destination = :destination AND #due_at <= :until",
        "ExpressionAttributeNames": {"#destination": "destination", "#due_at": "due_at"},
        "ExpressionAttributeValues": {
            ":destination": {"S": destination},
            ":until": {"N": f"{until:.3f}"},
        },
    }


def read(
    attributes: Mapping[str, Any],
    owner: str,
    now: float,
    margin: float,
    buried: Collection[str] = (),
) -> Item:
    """Return the item with these attributes, as the process sees it that owns things as `owner`.

    Another one that was to be alive until a lease is alive for `margin` seconds more, in which it
    may still stop; not where its build, which its name begins with, is among the `buried`. Raises
    ValueError, TypeError or KeyError where it is no item of this program.
    """
    values = {name: _deserialize(value) for name, value in attributes.items()}
    destination, _, record_id = str(values["record"]).partition("#")
    by = values.get("owner")
    lease = float(values.get("lease", 0))
    work = reported = None
    if values["state"] != State.REPORTED:
        worker = None
        if by == owner:
            worker = Worker.OWN
        elif by and now < lease + margin and by.partition("/")[0] not in buried:
            worker = Worker.OTHER
        phase = Phase(values["phase"]) if "phase" in values else None
        gone_since = None
        if values["state"] == State.RUNNING and not worker:
            gone_since = lease + margin if by else lease
            if phase == Phase.WAITING:
                gone_since = None if by else lease or None
        work = Work(
            digest=values["digest"],
            state=State(values["state"]),
            operation=values["operation"],
            status=values["status"],
            idempotency_token=values["idempotency_token"],
            region=values.get("region"),
            since=float(values["since"]),
            tries=int(values["tries"]),
            last_error=values.get("last_error"),
            phase=phase,
            content=_content(values["body"]) if "body" in values else None,
            worker=worker,
            gone_since=gone_since,
        )
    if told := values.get("reported"):
        texts = {
            name: told[name] for name in ("digest", "operation", "status", "idempotency_token")
        }
        reported = Reported(**texts, since=float(told["since"]), tries=int(told["tries"]))
    record = Record(Key(record_id, destination), work, reported)
    return Item(record, int(values["version"]), str(values.get("by", "")), by, lease)


def written(item: Item, now: float, margin: float, body: bytes | None) -> dict[str, Any]:
    """Return the attributes of an item, without its key.

    `body` is that of its work, where it is to be written.
    """
    work, reported = item.record.work, item.record.reported
    values: dict[str, Any] = {"version": item.version, "by": item.by, "state": State.REPORTED}
    if work:
        values |= {
            "state": work.state,
            "operation": work.operation,
            "status": work.status,
            "digest": work.digest,
            "idempotency_token": work.idempotency_token,
            "region": work.region,
            "since": _number(work.since),
            "tries": work.tries,
            "last_error": work.last_error,
            "phase": work.phase,
            "owner": item.owner,
            "lease": _number(item.lease) if item.lease else None,
            "destination": item.record.key.destination,
            "due_at": _number(_due_at(work, item, margin)),
            "body": body,
        }
    if reported:
        values["reported"] = vars(reported) | {"since": _number(reported.since)}
    if not work:
        values["expires"] = int(reported.since if reported else now) + KEEP_SECONDS
    return {
        name: _serialize(str(value) if isinstance(value, str) else value)
        for name, value in values.items()
        if value is not None
    }


def update(values: Mapping[str, Any], seen: int, keeps_body: bool) -> dict[str, Any]:
    """Return the parameters of an `UpdateItem` that leaves these attributes, and no others.

    Its condition: the item's version is the one that was `seen`, or there is no item (0). Every
    name has an alias: more of them are reserved than one thinks
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html).
    """
    kept = {*values, "body"} if keeps_body else set(values)
    gone = [f"#{name}" for name in ATTRIBUTES if seen and name not in kept]
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in values)
    used = {f"#{name}": name for name in values} | {name: name[1:] for name in gone}
    attributes = {f":{name}": value for name, value in values.items()}
    condition = "attribute_not_exists(#version)"
    if seen:
        condition, attributes[":seen"] = "#version = :seen", {"N": str(seen)}
    return {
        "UpdateExpression": expression + (f" REMOVE {', '.join(gone)}" if gone else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": used,
        "ExpressionAttributeValues": attributes,
    }


def compressed(content: str) -> bytes:
    """Return the body for the JSON of a request."""
    return zlib.compress(content.encode())


def _content(body: Any) -> str | None:
    """The JSON of a request, or None where it cannot be read any more."""
    try:
        return zlib.decompress(bytes(body)).decode()
    except (zlib.error, UnicodeError):
        return None


def _due_at(work: Work, item: Item, margin: float) -> float:
    """When `moves.claim` may have something to do."""
    if work.state == State.REFUSED or work.phase == Phase.WAITING:
        return NEVER
    gone = item.lease + margin if item.owner else item.lease
    if work.state == State.OWED:
        return gone if item.owner else work.since
    return gone + RETURN_SECONDS if work.phase == Phase.PREPARING else gone


def _number(value: float) -> Decimal:
    return Decimal(f"{value:.3f}")
