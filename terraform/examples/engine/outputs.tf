output "product_id" {
  description = "The product, for `aws servicecatalog provision-product --product-id`."
  value       = aws_servicecatalog_product.bucket.id
}

output "account" {
  description = "The account it is in, which makes a bucket's name unique."
  value       = local.account
}

output "build_log_group" {
  description = "Log group in which each order's Terraform can be read."
  value       = module.engine.build_log_group
}

output "journal" {
  description = "The engine's journal, for WORKFLOW_RESULT_JOURNAL."
  value       = module.engine.journal
}
