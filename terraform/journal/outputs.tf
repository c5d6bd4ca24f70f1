output "journal" {
  description = "URL of the journal, for --journal or WORKFLOW_RESULT_JOURNAL. It names the region, so that it means the same table on every machine."
  value       = "dynamodb://${aws_dynamodb_table.journal.name}?region=${local.region}"
}

output "table_arn" {
  description = "ARN of the table, for policies and alarms of your own."
  value       = aws_dynamodb_table.journal.arn
}

output "report_policy" {
  description = "IAM policy, as JSON, for what runs `notify`, `run`, `forget`, `rescue` or `worker --record`: reads and writes single entries."
  value       = local.policies.report
}

output "resend_policy" {
  description = "IAM policy, as JSON, for what runs `resend` or `worker`: what report_policy allows, and finding what is due."
  value       = local.policies.resend
}

output "look_policy" {
  description = "IAM policy, as JSON, for who runs `pending` or `doctor`: lists what is due, and can read neither a request nor a WorkflowToken."
  value       = local.policies.look
}
