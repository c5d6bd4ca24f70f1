#!/usr/bin/env bash
# For a build: has Terraform TERRAFORM_VERSION in the folder tools, unless it is on PATH already. Its
# zip file comes from TERRAFORM_URL, or is there from an earlier build; its SHA-256 is looked at each
# time. A zip file that is another one ends the build before anything is done with it.
set -euo pipefail
read -r found < <(terraform version 2>/dev/null) || true # a pipe would fail where it is read no further
if [ "$found" != "Terraform v$TERRAFORM_VERSION" ]; then
  zip=tools/terraform_${TERRAFORM_VERSION}_linux_amd64.zip
  right() { echo "$TERRAFORM_SHA256  $zip" | sha256sum --check --status 2>/dev/null; }
  mkdir -p tools
  right || curl --fail --silent --show-error --location --retry 3 --output "$zip" \
    "$TERRAFORM_URL/$TERRAFORM_VERSION/${zip#tools/}"
  if ! right; then
    echo "$TERRAFORM_URL has another Terraform $TERRAFORM_VERSION: its SHA-256 is not $TERRAFORM_SHA256" >&2
    rm -f "$zip"
    exit 1
  fi
  python -m zipfile --extract "$zip" tools
  chmod +x tools/terraform
fi
