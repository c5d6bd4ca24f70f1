output "result" {
  description = "What main.py validate printed: operation, record_id, status and so on, all strings."
  value       = data.external.validate.result
}
