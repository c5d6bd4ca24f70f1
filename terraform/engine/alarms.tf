# What somebody has to look at. `finish` tells of the journal every five minutes; its metrics have no dimension.

locals {
  journal_alarms = {
    oldest-owed = {
      metric      = "OldestOwed"
      threshold   = 15 * 60
      description = "A result has been owed for 15 minutes, or nothing is heard of the journal: see why Service Catalog does not take it, or why the function ${local.functions.finish.name} does not run."
      missing     = "breaching" # `finish` is what ends orders that hang
    }
    refused = {
      metric      = "Refused"
      threshold   = 0
      description = "Service Catalog has refused a result for good: `pending` says which and why; end the order by hand, then `forget` it."
      missing     = "notBreaching"
    }
    builds-refused = {
      metric      = "BuildsRefused"
      threshold   = 0
      description = "CodeBuild refuses to start builds though there is room, or to tell of them: see the log of ${local.functions.finish.name}. Orders are FAILED for that after an hour."
      missing     = "notBreaching"
    }
    running-too-long = {
      metric      = "OldestRunning"
      threshold   = (local.build_timeout + 15) * 60
      description = "An order runs for longer than its build may: look at the builds of ${local.name} and, if none is at it, at the log of ${local.functions.finish.name}."
      missing     = "notBreaching"
    }
    waiting-too-long = {
      metric      = "OldestWaiting"
      threshold   = (local.build_timeout + 15) * 60
      description = "An order has been waiting for longer than a build may run: see the log of ${local.functions.finish.name} for why none is started, and the builds of ${local.name} for what is in its way."
      missing     = "notBreaching"
    }
  }

  page = "More: docs/engine.md of the engine's project."
}

resource "aws_cloudwatch_metric_alarm" "journal" {
  for_each = local.journal_alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = "${each.value.description} ${local.page}"
  namespace           = "WorkflowResult"
  metric_name         = each.value.metric
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 300
  evaluation_periods  = 3
  datapoints_to_alarm = each.value.missing == "breaching" ? 3 : 1
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${local.name}-dead-letters"
  alarm_description   = "A message has been in ${aws_sqs_queue.dead_letters.name} for 15 minutes: it is no order, or its order could not be ended. See the log of ${local.functions.finish.name}, end the order by hand, delete the message. ${local.page}"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  # `finish` has them in its hands for half an hour at a time.
  metric_query {
    id          = "messages"
    expression  = "visible + held"
    label       = "Messages"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = {
      visible = "ApproximateNumberOfMessagesVisible"
      held    = "ApproximateNumberOfMessagesNotVisible"
    }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/SQS"
        metric_name = metric_query.value
        dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
        period      = 300
        stat        = "Maximum"
      }
    }
  }
}

# A function that is never called has no errors: its mapping may be off, or may not use the queue's key.
resource "aws_cloudwatch_metric_alarm" "not_taken" {
  alarm_name          = "${local.name}-not-taken"
  alarm_description   = "A message has been in an operation queue for 45 minutes, in which it is taken or becomes a dead letter: see whether Lambda may read the queues, and calls ${local.functions.start.name}. ${local.page}"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 45 * 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  metric_query {
    id          = "oldest"
    expression  = "MAX(METRICS())"
    label       = "Seconds"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = aws_sqs_queue.operation

    content {
      id = lower(metric_query.key)

      metric {
        namespace   = "AWS/SQS"
        metric_name = "ApproximateAgeOfOldestMessage"
        dimensions  = { QueueName = metric_query.value.name }
        period      = 300
        stat        = "Maximum"
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = aws_lambda_function.this

  alarm_name          = "${each.value.function_name}-errors"
  alarm_description   = "The function ${each.value.function_name} fails: see its log, ${local.function_log_groups[each.key]}. ${local.page}"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = each.value.function_name }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}
