# What Service Catalog asks, what takes messages from the queues, and what looks after the orders.

locals {
  functions = {
    parser = {
      name        = "ServiceCatalogExternalParameterParser" # Service Catalog calls it by this name
      handler     = "parse_parameters"
      description = "Tells Service Catalog what parameters an artifact has"
      timeout     = 100
      memory      = 1024 # the artifact is unpacked and read
      storage     = 2560 # packed, and unpacked
      environment = local.log_environment
    }
    start = {
      name        = "${local.name}-start"
      handler     = "start"
      description = "Takes an order from its queue, enters it in the journal and starts a build for it"
      timeout     = 60
      memory      = 512
      storage     = 512
      environment = local.function_environment
    }
    finish = {
      name        = "${local.name}-finish"
      handler     = "finish"
      description = "Sees to orders that nobody else ends: starts, delivers, or reports them FAILED"
      timeout     = 300
      memory      = 512
      storage     = 512
      environment = local.function_environment
    }
  }

  # A function's log is for programs; that of a build is for people, unless var.environment says otherwise.
  log_environment = { WORKFLOW_RESULT_LOG = "json" }

  function_environment = merge(
    local.log_environment,
    {
      WORKFLOW_RESULT_JOURNAL       = module.journal.journal
      WORKFLOW_RESULT_BUILD_PROJECT = local.name
    },
    var.log_link ? { WORKFLOW_RESULT_LOG_LINK = "1" } : {},
  )

  # Names, so that a function and its log group can be made in any order.
  function_log_groups = { for key, function in local.functions : key => "/aws/lambda/${function.name}" }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.function_log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "this" {
  for_each = local.functions

  function_name = each.value.name
  description   = each.value.description
  role          = aws_iam_role.this[each.key].arn

  runtime           = "python${local.python}"
  architectures     = ["x86_64"]
  handler           = "workflow_result.engine.functions.${each.value.handler}"
  s3_bucket         = aws_s3_object.package.bucket
  s3_key            = aws_s3_object.package.key
  s3_object_version = aws_s3_object.package.version_id
  source_code_hash  = filebase64sha256(local.package)

  timeout     = each.value.timeout
  memory_size = each.value.memory

  ephemeral_storage {
    size = each.value.storage
  }

  environment {
    variables = each.value.environment
  }

  # Whoever calls a function that may not log yet makes a log group that is kept for ever.
  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy.this]
}

# No source_account, for the reason that queues.tf gives.
resource "aws_lambda_permission" "parser" {
  statement_id  = "ServiceCatalog"
  function_name = aws_lambda_function.this["parser"].function_name
  action        = "lambda:InvokeFunction"
  principal     = "servicecatalog.amazonaws.com"
}

resource "aws_lambda_event_source_mapping" "start" {
  for_each = aws_sqs_queue.operation

  function_name           = aws_lambda_function.this["start"].arn
  event_source_arn        = each.value.arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = 5
  }
}

resource "aws_lambda_event_source_mapping" "finish" {
  function_name           = aws_lambda_function.this["finish"].arn
  event_source_arn        = aws_sqs_queue.dead_letters.arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = 2 # the fewest there are
  }
}

locals {
  finish_rules = {
    builds = {
      description = "A build of the engine has ended"
      schedule    = null
      pattern = jsonencode({
        source        = ["aws.codebuild"]
        "detail-type" = ["CodeBuild Build State Change"]
        detail = {
          "project-name" = [local.name]
          "build-status" = ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
        }
      })
    }
    schedule = {
      description = "What is due in the engine's journal"
      schedule    = "rate(5 minutes)"
      pattern     = null
    }
  }
}

resource "aws_cloudwatch_event_rule" "finish" {
  for_each = local.finish_rules

  name                = "${local.name}-${each.key}"
  description         = each.value.description
  event_pattern       = each.value.pattern
  schedule_expression = each.value.schedule
}

resource "aws_cloudwatch_event_target" "finish" {
  for_each = aws_cloudwatch_event_rule.finish

  rule = each.value.name
  arn  = aws_lambda_function.this["finish"].arn
}

resource "aws_lambda_permission" "finish" {
  for_each = aws_cloudwatch_event_rule.finish

  statement_id  = each.key
  function_name = aws_lambda_function.this["finish"].function_name
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  source_arn    = each.value.arn
}
