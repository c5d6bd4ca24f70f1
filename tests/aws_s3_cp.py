"""`aws s3 cp s3://BUCKET/KEY FILE`, all that the CI job needs of the AWS CLI."""

import os
import sys
from typing import Any

import boto3

assert sys.argv[1:3] == ["s3", "cp"]
bucket, _, key = sys.argv[3].removeprefix("s3://").partition("/")
client: Any = boto3.client("s3", region_name=os.environ["AWS_REGION"])
client.download_file(bucket, key, sys.argv[4])
