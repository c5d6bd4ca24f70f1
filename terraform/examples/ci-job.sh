#!/usr/bin/env bash
# MESSAGE='{…}' STATE_BUCKET=… terraform/examples/ci-job.sh
#
# A CI job for one message of Service Catalog's queues. It does what `run` leaves to the engine:
# fetch the artifact with the launch role, keep state and artifact in S3, run Terraform with the
# launch role. Needs main.py, aws (version 2, or credentials in the environment), jq and
# terraform (1.10 or later) on PATH, and AWS_REGION. The engine's role needs sts:AssumeRole for the
# launch roles, s3:ListBucket, GetObject, PutObject and DeleteObject for STATE_BUCKET, and the three
# servicecatalog:Notify… operations.
#
# MESSAGE holds the WorkflowToken: pass it as the secret that it is. Neither Terraform's environment
# nor any argument has it. Code in an artifact still runs as the user of this job, and can get at
# whatever that user can: the token and the engine's credentials, if it goes looking for them.
set -euo pipefail
umask 077

for program in jq main.py; do # without these nothing can be reported
  command -v "$program" >/dev/null || { echo "$program is not on PATH" >&2; exit 78; }
done
message=${MESSAGE:-null}
unset MESSAGE
field() { printf '%s' "$message" | jq -r "$1 // empty"; }
operation=$(field .operation 2>/dev/null | cut -d_ -f1 | tr '[:upper:]' '[:lower:]') || true
record=$(field .recordId 2>/dev/null) || true
case ${record:+$operation} in
  provision | update | terminate) ;;
  *) operation= ;;
esac
if [ -z "$operation" ] || [ -z "$(field .token)" ]; then
  echo "MESSAGE holds no operation message of Service Catalog" >&2
  exit 65
fi

# Report FAILED with this reason. Whatever ends the job before `run` takes over comes here.
fail() {
  trap '' INT TERM HUP
  trap - EXIT
  echo "$1" >&2
  # shellcheck disable=SC2046 # process IDs
  kill $(jobs -p) 2>/dev/null || true
  # With the tag, a failed provision can be updated and has a resource group, as `run` reports it.
  printf '%s' "$message" | jq --arg reason "$1" '
    {WorkflowToken: .token, RecordId: .recordId, Status: "FAILED", FailureReason: $reason}
    + if (.operation | startswith("PROVISION_")) and .provisionedProductId then
        {ResourceIdentifier: {UniqueTag: {Value: .provisionedProductId,
          Key: "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE"}}}
      else {} end' | main.py notify --input - --operation "$operation" || exit
  exit 1
}
trap 'fail "The engine could not prepare the run."' EXIT
for name in INT TERM HUP; do
  # shellcheck disable=SC2064 # the name is meant as it is now
  trap "fail 'The engine was stopped by SIG$name before Terraform was started.'" "$name"
done

for program in aws terraform; do
  command -v "$program" >/dev/null || fail "$program is not on PATH on the engine's machine."
done
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
[ -n "$region" ] || fail "AWS_REGION is not set on the engine's machine."
[ -n "${STATE_BUCKET:-}" ] || fail "STATE_BUCKET is not set on the engine's machine."
export AWS_REGION=$region AWS_DEFAULT_REGION=$region
role=$(field .launchRoleArn)
[[ $role =~ ^arn:aws[a-z-]*:iam::([0-9]{12}):role/[A-Za-z0-9+=,.@_/-]+$ ]] ||
  fail "The message names no launch role, without which nothing is run: add a launch constraint."
account=$(field .identity.awsAccountId)
product=$(field .provisionedProductId)
[ -n "$product" ] || fail "The message has no provisionedProductId."
# The key as AWS's Terraform Reference Engine has it.
state_key=${account:-${BASH_REMATCH[1]}}/$product
session=$(printf '%s' "$product-$record" | tr -c 'A-Za-z0-9=,.@_-' - | cut -c 1-64)
terraform=$(command -v terraform)
tools=$(cd "${BASH_SOURCE[0]%/*}/ci-job" && pwd)

work=$(mktemp -d)
# This process becomes `run`. The folder goes when it has ended, whatever ends it; should `run` be
# killed, not before the Terraform that goes on without it.
exec 3> >(
  trap '' INT TERM HUP
  exec bash -c 'cat >/dev/null
    while kill -0 "$(cat "$0/terraform.pid")"; do sleep 1; done 2>/dev/null
    chmod -R u+rwX "$0" && rm -rf "$0"' "$work"
)

# Run a program, ready for a signal all the while; `said` has what it said on stderr.
attend() {
  "$@" 2>"$work/said" 3>&- &
  wait $!
}
said() {
  tr -s '[:space:]' ' ' <"$work/said" |
    sed -E "s#$work/##g; s#[A-Za-z0-9+/=]{100,}#(hidden)#g; s#^ | \$##g" | cut -c 1-400
}

{
  declare -p terraform operation role session state_key STATE_BUCKET
  declare -px "${!AWS_@}"
} >"$work/job.env"

# Terraform, its providers with all their aliases, and what provisioners start have the launch role,
# the backend alone has the engine's. As profiles, so that both are fetched anew when they expire.
cp "$tools"/* "$work"
cat >"$work/aws.config" <<EOF
[default]
credential_process = "$work/credentials" launch
[profile engine]
credential_process = "$work/credentials" engine
EOF

# Unpack FOLDER.tar.gz, told of as NAME, into FOLDER. tar itself keeps absolute paths inside, refuses
# .. and writes nothing through a link that leads outside; what it leaves behind is looked at.
max_kib=1048576 # a mistake or a bomb is larger
limited() {
  ulimit -c 0 -f "$max_kib"
  exec "$@"
}
unpack() {
  local folder=$1 name=$2 odd link code=0
  if ! attend limited gzip -dc "$folder.tar.gz" >"$folder.tar"; then
    [ "$(wc -c <"$folder.tar")" -lt $((max_kib * 1024)) ] ||
      fail "$name unpacks to more than $((max_kib / 1024)) MiB."
    fail "$name is no tar.gz archive: $(said)"
  fi
  mkdir "$folder"
  attend limited tar -C "$folder" -xof "$folder.tar" || code=$?
  odd=$(find "$folder" ! -type f ! -type d ! -type l -print | head -n 1)
  [ -z "$odd" ] || fail "$name has something that is no file, folder or link: ${odd#"$folder"/}"
  while IFS= read -r -d '' link; do
    [[ $(readlink -f "$link") == "$(readlink -f "$folder")"/* ]] ||
      fail "$name has a link that leads outside, or nowhere: ${link#"$folder"/}"
  done < <(find "$folder" -type l -print0)
  [ "$code" -eq 0 ] || fail "$name could not be unpacked: $(said)"
  chmod -R u+rwX "$folder"
}

product_dir=$work/product # what is kept beside the state: the artifact and its parameters
artifact=$product_dir/artifact
attend "$work/credentials" launch >/dev/null ||
  fail "The launch role $role could not be assumed: $(said)"
if [ "$operation" = terminate ]; then
  if attend limited aws s3api get-object --bucket "$STATE_BUCKET" --key "$state_key.artifact.tar.gz" \
    "$product_dir.tar.gz" >/dev/null; then
    unpack "$product_dir" "The artifact kept in $STATE_BUCKET"
    message=$(printf '%s' "$message" |
      jq -c --slurpfile kept "$product_dir/parameters.json" '.parameters = $kept[0]')
  elif grep -q NoSuchKey "$work/said"; then
    mkdir -p "$artifact" # from before artifacts were kept: the state alone says what to destroy
  else
    fail "The artifact kept in $STATE_BUCKET could not be fetched: $(said)"
  fi
else
  path=$(field .artifact.path) # S3://BUCKET/KEY, also in capitals
  [[ $path =~ ^[sS]3://([^/]+)/(.+)$ ]] ||
    fail "The path of the artifact is not s3://BUCKET/KEY: $path"
  bucket=${BASH_REMATCH[1]} key=${BASH_REMATCH[2]} name="The artifact $path"
  mkdir "$product_dir"
  field '.parameters // []' >"$product_dir/parameters.json"
  AWS_CONFIG_FILE=$work/aws.config AWS_SHARED_CREDENTIALS_FILE=/dev/null attend \
    limited aws --profile default s3api get-object --bucket "$bucket" --key "$key" \
    "$artifact.tar.gz" >/dev/null ||
    fail "$name could not be fetched with the launch role $role: $(said)"
  unpack "$artifact" "$name"
  rm "$artifact.tar" "$artifact.tar.gz"
  configuration() { (cd "$artifact" && find . "$@" '(' -name '*.tf' -o -name '*.tf.json' ')'); }
  if [ -z "$(configuration -maxdepth 1)" ]; then
    inner=$(configuration | sort | head -n 1)
    fail "$name has no Terraform configuration at its top${inner:+, but in ${inner%/*}}."
  fi
fi

# What a run of its own has left in the artifact is not this product's.
rm -rf "$artifact/.terraform" "$artifact"/terraform.tfstate*

# Terraform merges override files in the order of their names, and the last one has its way.
override='~engine_override.tf.json'
rm -rf "${artifact:?}/$override"
jq -n --arg bucket "$STATE_BUCKET" --arg key "$state_key" --arg region "$region" '
  {terraform: {backend: {s3: {$bucket, $key, $region,
    profile: "engine", encrypt: true, use_lockfile: true}}}}' >"$artifact/$override"
last=$(LC_ALL=C bash -c 'cd "$0" && printf "%s\n" *override.t*' "$artifact" | tail -n 1)
[ "$last" = "$override" ] ||
  fail "The artifact's $last would take the place of the engine's backend."

exec main.py run --chdir "$artifact" --terraform "$work/terraform" --timeout 3000 \
  < <(printf '%s' "$message")
