# Where Service Catalog puts its messages, and where those end up that nobody could handle.

locals {
  operations = toset(["Provision", "Update", "Terminate"])

  # Those who send to a queue with a customer managed key, or read from it, use the key through SQS.
  sqs_key = var.kms_key_arn == null ? [] : [{
    Sid       = "QueueKey"
    Effect    = "Allow"
    Action    = ["kms:Decrypt"]
    Resource  = var.kms_key_arn
    Condition = { StringEquals = { "kms:ViaService" = "sqs.${local.region}.${data.aws_partition.current.dns_suffix}" } }
  }]
}

resource "aws_sqs_queue" "operation" {
  for_each = local.operations

  name = "ServiceCatalogExternal${each.key}OperationQueue"

  # Lambda wants six times the function's timeout, and five receives or more
  # (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html).
  visibility_timeout_seconds = 6 * local.functions.start.timeout
  message_retention_seconds  = 14 * 24 * 60 * 60
  receive_wait_time_seconds  = 20 # for `worker`

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                       = "${local.name}-dead-letters"
  visibility_timeout_seconds = 6 * local.functions.finish.timeout
  message_retention_seconds  = 14 * 24 * 60 * 60 # as long as SQS keeps any
  sqs_managed_sse_enabled    = var.kms_key_arn == null ? true : null
  kms_master_key_id          = var.kms_key_arn
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [for queue in aws_sqs_queue.operation : queue.arn]
  })
}

# No aws:SourceAccount for Service Catalog: an order may come from the account that a portfolio is
# shared with, and AWS's guide does not say which account is named then.
resource "aws_sqs_queue_policy" "operation" {
  for_each = aws_sqs_queue.operation

  queue_url = each.value.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "ServiceCatalog"
        Effect    = "Allow"
        Principal = { Service = "servicecatalog.amazonaws.com" }
        Action    = ["sqs:SendMessage", "sqs:GetQueueUrl"]
        Resource  = each.value.arn
      },
      merge(local.tls_only, { Action = "sqs:*", Resource = each.value.arn }),
    ]
  })
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.tls_only, { Action = "sqs:*", Resource = aws_sqs_queue.dead_letters.arn })]
  })
}
