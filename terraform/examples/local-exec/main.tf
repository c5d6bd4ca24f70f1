# terraform init && terraform apply -var record_id=rec-demo
#
# The smallest configuration that reports its own result. The WorkflowToken stays out of it:
# main.py finds it in WORKFLOW_RESULT_TOKEN, in the environment that terraform was started in.

# What the product creates; anything can stand here.
resource "terraform_data" "product" {
  input = "https://demo.example.com"
}

# Runs once, when everything it refers to exists.
resource "terraform_data" "report" {
  triggers_replace = var.record_id

  provisioner "local-exec" {
    # A list and no shell: nothing of the request is ever part of a command line.
    interpreter = var.program
    command     = "notify"

    environment = {
      WORKFLOW_RESULT_REQUEST = jsonencode({
        RecordId = var.record_id
        Status   = "SUCCEEDED"
        Outputs = [{
          OutputKey   = "url"
          OutputValue = terraform_data.product.output
          Description = "Where the product answers"
        }]
      })
    }
  }
}
