output "url" {
  description = "Where the product answers."
  value       = terraform_data.product.output
}
