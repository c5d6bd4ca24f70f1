output "journal" {
  description = "URL of the journal, for WORKFLOW_RESULT_JOURNAL: `pending`, `resend`, `rescue` and `worker` elsewhere."
  value       = module.journal.journal
}

output "state_bucket" {
  description = "Bucket with the states, for WORKFLOW_RESULT_STATE_BUCKET."
  value       = local.state_bucket
}

output "queue_urls" {
  description = "URLs of the queues that Service Catalog sends to, by operation: Provision, Update and Terminate."
  value       = { for operation, queue in aws_sqs_queue.operation : operation => queue.id }
}

output "dead_letter_queue_url" {
  description = "URL of the queue with the messages that could not be handled."
  value       = aws_sqs_queue.dead_letters.id
}

output "build_project" {
  description = "CodeBuild project whose builds run Terraform, for WORKFLOW_RESULT_BUILD_PROJECT."
  value       = aws_codebuild_project.this.name
}

output "build_log_group" {
  description = "CloudWatch log group with the logs of the builds."
  value       = aws_cloudwatch_log_group.build.name
}

output "execution_role_arn" {
  description = "ARN of the role that runs Terraform and assumes launch roles, for their trust policies."
  value       = aws_iam_role.this["build"].arn
}

output "parser_role_arn" {
  description = "ARN of the role that reads the parameters of artifacts with launch roles, for their trust policies."
  value       = aws_iam_role.this["parser"].arn
}

output "key_policy" {
  description = "What the key policy of kms_key_arn has to have beyond what lets your account use and manage it, as JSON: Service Catalog sends to queues that the key encrypts."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "ServiceCatalog"
      Effect    = "Allow"
      Principal = { Service = "servicecatalog.amazonaws.com" }
      Action    = ["kms:DescribeKey", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"]
      Resource  = "*" # in a key policy: this key
    }]
  })
}
