output "record_id" {
  description = "The record, once its result has been reported: what refers to it waits for the report."
  value       = terraform_data.report.triggers_replace.record_id
}
