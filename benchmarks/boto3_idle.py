"""The rival of a worker with nothing to do: a process that has the same clients, and waits."""

import sys

import boto3

clients = [
    boto3.client("sqs"),
    boto3.client("s3"),
    boto3.client("sts"),
    boto3.client("dynamodb"),
    boto3.client("servicecatalog"),
]
print("ready", flush=True)
sys.stdin.read()
