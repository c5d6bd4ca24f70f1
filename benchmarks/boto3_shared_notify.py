"""The rival with a shared journal: the shortest boto3 script that makes the same calls. No checks.

`boto3_shared_notify.py TABLE` enters a result into the table, reports it, and strikes it off.
"""

import json
import sys

import boto3

request = json.load(sys.stdin)
table = boto3.client("dynamodb")
client = boto3.client("servicecatalog")


def update(version: int, expression: str, **values: object) -> None:
    table.update_item(
        TableName=sys.argv[1],
        Key={"record": {"S": f"sandbox#{request['RecordId']}"}},
        UpdateExpression=expression,
        ConditionExpression="attribute_not_exists(version) OR version = :seen",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={
            ":seen": {"N": str(version)},
            ":version": {"N": str(version + 1)},
            **values,
        },
    )


update(
    0,
    "SET #state = :state, version = :version, body = :body, destination = :to, due_at = :due",
    **{
        ":state": {"S": "owed"},
        ":body": {"B": json.dumps(request).encode()},
        ":to": {"S": "sandbox"},
        ":due": {"N": "0"},
    },
)
client.notify_provision_product_engine_workflow_result(**request)
update(
    1,
    "SET #state = :state, version = :version REMOVE body, destination, due_at",
    **{":state": {"S": "reported"}},
)
