# The DynamoDB table behind `--journal dynamodb://TABLE`. Its keys and its index are fixed by main.py.

data "aws_region" "current" {}

data "aws_partition" "current" {}

resource "aws_dynamodb_table" "journal" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  hash_key = "record"

  attribute {
    name = "record"
    type = "S"
  }

  attribute {
    name = "destination"
    type = "S"
  }

  attribute {
    name = "due_at"
    type = "N"
  }

  # Only an entry with something left to do has due_at, so only such entries are in here.
  global_secondary_index {
    name            = "due"
    hash_key        = "destination"
    range_key       = "due_at"
    projection_type = "INCLUDE"

    # Never `body`: it holds the WorkflowToken.
    non_key_attributes = [
      "state",
      "operation",
      "status",
      "digest",
      "idempotency_token",
      "region",
      "since",
      "tries",
      "last_error",
      "phase",
      "owner",
      "lease",
      "version",
      "reported",
    ]
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn
  }

  ttl {
    attribute_name = "expires"
    enabled        = true
  }

  # Both would keep what main.py removes, WorkflowTokens included. Said here, so that a plan shows
  # it where somebody has turned them on.
  stream_enabled = false

  point_in_time_recovery {
    enabled = false
  }
}

locals {
  # `id` is the region's name in all versions of the provider; `name` is deprecated in 6.
  region = data.aws_region.current.id

  entries = {
    Sid      = "Entries"
    Effect   = "Allow"
    Action   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
    Resource = aws_dynamodb_table.journal.arn
  }

  due = {
    Sid      = "Due"
    Effect   = "Allow"
    Action   = ["dynamodb:Query"]
    Resource = "${aws_dynamodb_table.journal.arn}/index/due"
  }

  # Whoever reads or writes a table has to be allowed to decrypt its key, through DynamoDB alone.
  key = var.kms_key_arn == null ? [] : [{
    Sid       = "Key"
    Effect    = "Allow"
    Action    = ["kms:Decrypt"]
    Resource  = var.kms_key_arn
    Condition = { StringEquals = { "kms:ViaService" = "dynamodb.${local.region}.${data.aws_partition.current.dns_suffix}" } }
  }]

  policies = {
    for who, statements in {
      report = concat([local.entries], local.key)
      resend = concat([local.entries, local.due], local.key)
      look   = concat([local.due], local.key)
    } : who => jsonencode({ Version = "2012-10-17", Statement = statements })
  }
}
