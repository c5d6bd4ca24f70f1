"""Tables for a shared journal on a stand-in for DynamoDB, and what lies in them."""

import itertools
import zlib
from dataclasses import dataclass
from typing import Any

from ministack_server import Ministack

PROJECTED = (
    *("state", "operation", "status", "digest", "idempotency_token", "region", "since", "tries"),
    *("last_error", "phase", "owner", "lease", "version", "reported"),
)
"""What the index has: no `body`, so no token. As in terraform/journal."""

_numbers = itertools.count()


@dataclass
class SharedTable:
    """A table of its own on a running stand-in."""

    server: Ministack
    name: str

    def __post_init__(self) -> None:
        self.client = self.server.client("dynamodb")

    def url(self, **settings: Any) -> str:
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        return f"dynamodb://{self.name}" + (f"?{query}" if query else "")

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL_DYNAMODB": self.server.url}

    def items(self) -> list[dict[str, Any]]:
        """All items, each attribute without its type."""
        pages = self.client.get_paginator("scan").paginate(TableName=self.name)
        return [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages
            for item in page["Items"]
        ]

    def set(self, record: str, **values: Any) -> None:
        """Change attributes of an item behind the program's back."""
        names = {f"#{name}": name for name in values}
        self.client.update_item(
            TableName=self.name,
            Key={"record": {"S": record}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={
                f":{name}": {"N": str(value)} if isinstance(value, int | float) else {"S": value}
                for name, value in values.items()
            },
        )

    def leftovers(self, piece: bytes) -> list[str]:
        """The items in which this is, in a body or anywhere else."""
        found = []
        for item in self.items():
            body = zlib.decompress(item["body"]) if "body" in item else b""
            if piece in body or piece in str(item).encode():
                found.append(str(item["record"]))
        return found


def new_table(server: Ministack) -> SharedTable:
    """Make a table as terraform/journal does."""
    table = SharedTable(server, f"journal-{next(_numbers)}")
    types = {"record": "S", "destination": "S", "due_at": "N"}
    table.client.create_table(
        TableName=table.name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
        ],
        KeySchema=[{"AttributeName": "record", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "destination", "KeyType": "HASH"},
                    {"AttributeName": "due_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(PROJECTED)},
            }
        ],
    )
    return table
