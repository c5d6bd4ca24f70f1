output "reported" {
  description = "Record whose result was reported."
  value       = module.report.record_id
}
