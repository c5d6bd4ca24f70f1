# terraform init && terraform apply -var record_id=rec-demo
#
# A product that reports its own success, through the module `report`. README.md says what has
# to run beside it; the WorkflowToken comes from the environment.

# What the product creates; anything can stand here.
resource "terraform_data" "product" {
  input = {
    url   = "https://demo.example.com"
    zones = ["us-east-1a", "us-east-1b"]
  }
}

module "report" {
  source = "../../report"

  record_id = var.record_id

  outputs = {
    url   = terraform_data.product.output.url
    zones = terraform_data.product.output.zones
  }
  output_descriptions = {
    url = "Where the product answers"
  }

  resource_identifier = {
    value = var.provisioned_product_id
  }

  program = var.program

  # What no output refers to has to exist, too, before the report says that all is well.
  depends_on = [terraform_data.product]
}
