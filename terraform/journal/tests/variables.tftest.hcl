# terraform init && terraform test
#
# What the table is, whom the policies let do what, and what is refused. The provider is a mock:
# applying it for real, and what each refusal says, is for tests/served/test_terraform_journal.py.
# Each run starts the provider anew, so what holds of the same variables is in one.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }

  mock_data "aws_partition" {
    defaults = { dns_suffix = "amazonaws.com" }
  }

  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/workflow-result" }
  }
}

run "needs_nothing" {
  assert {
    condition     = aws_dynamodb_table.journal.name == "workflow-result"
    error_message = "The table must be named workflow-result where nothing else is said."
  }

  assert {
    condition     = output.journal == "dynamodb://workflow-result?region=eu-central-1"
    error_message = "The URL must name the table and the provider's region."
  }

  assert {
    condition     = output.table_arn == aws_dynamodb_table.journal.arn
    error_message = "The ARN must be the table's."
  }

  assert {
    condition     = aws_dynamodb_table.journal.billing_mode == "PAY_PER_REQUEST"
    error_message = "The table must be on demand."
  }

  assert {
    condition     = aws_dynamodb_table.journal.deletion_protection_enabled
    error_message = "The table must be protected from deletion."
  }

  assert {
    condition     = aws_dynamodb_table.journal.server_side_encryption[0].enabled
    error_message = "The table must be encrypted with a key in KMS."
  }

  assert {
    condition     = one(aws_dynamodb_table.journal.ttl).enabled && one(aws_dynamodb_table.journal.ttl).attribute_name == "expires"
    error_message = "Entries must expire by the attribute expires."
  }

  assert {
    condition     = !aws_dynamodb_table.journal.point_in_time_recovery[0].enabled
    error_message = "Point-in-time recovery would keep WorkflowTokens."
  }

  assert {
    condition     = !aws_dynamodb_table.journal.stream_enabled
    error_message = "A stream would keep WorkflowTokens."
  }
}

run "has_the_keys_that_the_program_uses_and_no_token_in_the_index" {
  assert {
    condition     = aws_dynamodb_table.journal.hash_key == "record" && aws_dynamodb_table.journal.range_key == null
    error_message = "The table's key must be record alone."
  }

  assert {
    condition     = { for a in aws_dynamodb_table.journal.attribute : a.name => a.type } == { record = "S", destination = "S", due_at = "N" }
    error_message = "record and destination must be strings, due_at a number."
  }

  assert {
    condition = [for i in aws_dynamodb_table.journal.global_secondary_index : [i.name, i.hash_key, i.range_key]] == [
      ["due", "destination", "due_at"],
    ]
    error_message = "There must be one index, due, by destination and due_at."
  }

  assert {
    condition     = one(aws_dynamodb_table.journal.global_secondary_index).projection_type == "INCLUDE"
    error_message = "The index must have no more than is named: body holds the WorkflowToken."
  }

  assert {
    condition = one(aws_dynamodb_table.journal.global_secondary_index).non_key_attributes == toset([
      "state", "operation", "status", "digest", "idempotency_token", "region", "since", "tries",
      "last_error", "phase", "owner", "lease", "version", "reported",
    ])
    error_message = "The index must have what `pending` and `resend` look at, and never body."
  }
}

run "lets_each_do_no_more_than_it_needs" {
  assert {
    condition = jsondecode(output.report_policy).Statement == [
      { Sid = "Entries", Effect = "Allow", Action = ["dynamodb:GetItem", "dynamodb:UpdateItem"], Resource = output.table_arn },
    ]
    error_message = "Those who report must read and write entries, and nothing else."
  }

  assert {
    condition = jsondecode(output.resend_policy).Statement == [
      { Sid = "Entries", Effect = "Allow", Action = ["dynamodb:GetItem", "dynamodb:UpdateItem"], Resource = output.table_arn },
      { Sid = "Due", Effect = "Allow", Action = ["dynamodb:Query"], Resource = "${output.table_arn}/index/due" },
    ]
    error_message = "Those who resend must find what is due, read and write entries, and nothing else."
  }

  assert {
    condition = jsondecode(output.look_policy).Statement == [
      { Sid = "Due", Effect = "Allow", Action = ["dynamodb:Query"], Resource = "${output.table_arn}/index/due" },
    ]
    error_message = "Those who look must see the index alone."
  }
}

run "uses_a_key_of_yours_through_dynamodb_alone" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
  }

  assert {
    condition     = aws_dynamodb_table.journal.server_side_encryption[0].kms_key_arn == var.kms_key_arn
    error_message = "The table must be encrypted with the key."
  }

  assert {
    condition = alltrue([
      for policy in [output.report_policy, output.resend_policy, output.look_policy] :
      reverse(jsondecode(policy).Statement)[0] == {
        Sid       = "Key"
        Effect    = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = var.kms_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "dynamodb.eu-central-1.amazonaws.com" } }
      }
    ])
    error_message = "Each policy must let DynamoDB decrypt with the key, and nobody else."
  }
}

run "takes_what_it_is_given" {
  variables {
    name                = format("a.B-c_%0249d", 0)
    deletion_protection = false
    tags                = { team = "platform" }
  }

  assert {
    condition     = output.journal == "dynamodb://${var.name}?region=eu-central-1"
    error_message = "The URL must name the table."
  }

  assert {
    condition     = !aws_dynamodb_table.journal.deletion_protection_enabled
    error_message = "The table must not be protected."
  }

  assert {
    condition     = aws_dynamodb_table.journal.tags == tomap({ team = "platform" })
    error_message = "The table must have the tags."
  }
}

run "refuses_a_name_that_is_too_long" {
  command = plan
  variables {
    name = format("%0256d", 0)
  }
  expect_failures = [var.name]
}

run "refuses_the_alias_of_a_key" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/journal"
  }
  expect_failures = [var.kms_key_arn]
}
