"""The rival: the shortest boto3 script that reports a result. No checks, no journal."""

import json
import sys

import boto3

client = boto3.client("servicecatalog")
client.notify_provision_product_engine_workflow_result(**json.load(sys.stdin))
