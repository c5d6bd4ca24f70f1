#!/usr/bin/env bash
# For a build: has Terraform TERRAFORM_VERSION in the folder tools, unless the image has it already. Its
# zip file comes from TERRAFORM_URL, or lies in the folder downloads since an earlier build. Code of an
# artifact may have been at that folder, so that the SHA-256 is looked at each time.
set -euo pipefail
read -r found < <(terraform version 2>/dev/null) || true # a pipe would fail where it is read no further
if [ "$found" != "Terraform v$TERRAFORM_VERSION" ]; then
  zip=downloads/terraform_${TERRAFORM_VERSION}_linux_amd64.zip
  right() { echo "$TERRAFORM_SHA256  $zip" | sha256sum --check --status 2>/dev/null; }
  mkdir -p downloads tools
  right || curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 \
    --speed-limit 1000 --speed-time 60 --output "$zip" "$TERRAFORM_URL/$TERRAFORM_VERSION/${zip#downloads/}"
  if ! right; then
    echo "$TERRAFORM_URL has another Terraform $TERRAFORM_VERSION: its SHA-256 is not $TERRAFORM_SHA256" >&2
    rm -f "$zip"
    exit 1
  fi
  python -m zipfile --extract "$zip" tools
  chmod +x tools/terraform
fi
