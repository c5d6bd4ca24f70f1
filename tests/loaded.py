"""What main.py loads, loaded before it is forked: see `warm`."""

import concurrent.futures
import ssl

import boto3
import boto3.dynamodb.types
import botocore.credentials
import botocore.session
import jsonschema
import pytest
import regress
import tree_sitter_hcl

import workflow_result.cli.journal
import workflow_result.cli.request
import workflow_result.cli.run
import workflow_result.delivery
import workflow_result.engine.order
import workflow_result.journal.dynamodb
import workflow_result.journal.sqlite
import workflow_result.resending

__all__ = [
    "boto3",
    "botocore",
    "concurrent",
    "jsonschema",
    "pytest",
    "regress",
    "ssl",
    "tree_sitter_hcl",
    "workflow_result",
]
