#!/usr/bin/env bash
# MESSAGE='{…}' STATE_BUCKET=… terraform/examples/ci-job.sh
#
# A CI job for one message of Service Catalog's queues. It does what `run` leaves to the engine:
# fetch the artifact, keep the state, use the launch role. Needs aws, jq, terraform and main.py
# on PATH. MESSAGE holds the WorkflowToken: pass it as the secret that it is.
set -euo pipefail

for program in aws jq terraform main.py; do
  command -v "$program" >/dev/null || { echo "$program is not on PATH" >&2; exit 78; }
done
if ! jq -e '.token and .recordId and .operation' <<<"${MESSAGE:-null}" >/dev/null 2>&1; then
  echo "MESSAGE holds no operation message of Service Catalog" >&2
  exit 65
fi

field() { jq -r "$1 // empty" <<<"$MESSAGE"; }

# What fails or is stopped before `run` takes over has to be reported, too.
report_failed() {
  trap - ERR
  jq '{WorkflowToken: .token, RecordId: .recordId, Status: "FAILED",
       FailureReason: "The engine could not prepare the run."}' <<<"$MESSAGE" |
    main.py notify --operation "$(field .operation | cut -d_ -f1 | tr '[:upper:]' '[:lower:]')"
}
trap 'report_failed; exit 1' ERR INT TERM HUP

region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
if [ -z "$region" ] || [ -z "${STATE_BUCKET:-}" ]; then
  echo "AWS_REGION and STATE_BUCKET have to be set" >&2
  false
fi

work=$(mktemp -d)
cd "$work"

path=$(field .artifact.path) # S3://bucket/key; absent from a terminate message
if [ -n "$path" ]; then
  aws s3 cp "s3://${path#[sS]3://}" artifact.tar.gz
  tar -xzf artifact.tar.gz
fi

# Overrides win over what the artifact says, and stand alone where there is no artifact.
cat >engine_override.tf <<EOF
terraform {
  backend "s3" {
    bucket = "$STATE_BUCKET"
    key    = "$(field .provisionedProductId)"
    region = "$region"
  }
}
provider "aws" {
  region = "$region"
  assume_role {
    role_arn = "$(field .launchRoleArn)"
  }
}
EOF

# `run` gets the signals from here on, and the artifact's code does not get the token.
exec env -u MESSAGE main.py run --timeout 3000 <<<"$MESSAGE"
