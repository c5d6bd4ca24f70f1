# Reports a success to AWS Service Catalog, once a record, with main.py.

locals {
  # A conditional hands the sensitivity of both its branches on, hence two maps. jsonencode looks
  # for it deep inside, where issensitive alone does not.
  hidden_outputs  = { for name, value in var.outputs : name => "(sensitive value)" if issensitive(jsonencode(value)) }
  visible_outputs = { for name, value in var.outputs : name => value if !issensitive(jsonencode(value)) }

  # A null is left out, as Terraform leaves it out of a configuration's own outputs.
  output_values = merge(local.hidden_outputs, {
    for name, value in local.visible_outputs : name => try(tostring(value), jsonencode(value)) if value != null
  })

  # One configuration serves all operations: what an operation does not take is left out here.
  request = jsonencode({
    RecordId = var.record_id
    Status   = "SUCCEEDED"
    Outputs = var.operation == "terminate" ? null : [
      for name, value in local.output_values : {
        OutputKey   = name
        OutputValue = value
        Description = lookup(var.output_descriptions, name, null)
      }
    ]
    ResourceIdentifier = var.operation != "provision" || var.resource_identifier == null ? null : {
      UniqueTag = {
        Key   = var.resource_identifier.key
        Value = var.resource_identifier.value
      }
    }
  })
  environment = { WORKFLOW_RESULT_REQUEST = local.request }
}

resource "terraform_data" "report" {
  triggers_replace = {
    record_id = var.record_id
    operation = var.operation
  }

  lifecycle {
    # Linux takes 128 KiB a string (MAX_ARG_STRLEN in execve(2)), "WORKFLOW_RESULT_REQUEST=" and
    # the final NUL included. length() counts characters; Base64 makes four of every three bytes.
    precondition {
      condition     = length(base64encode(local.request)) <= 131046 / 3 * 4
      error_message = "The outputs are too long: with their names and descriptions, as JSON, they may have 131,046 bytes. Leave some out, or put a long one into a place of its own and report where it is."
    }
  }

  provisioner "local-exec" {
    # A list and no shell: nothing of the request is ever part of a command line.
    interpreter = concat(var.program, ["notify"])
    command     = "--operation=${var.operation}"

    # Terraform hides what main.py prints where there is an ephemeral value in here, even if it
    # is null. `can` tells that it is, and its answer is not ephemeral.
    environment = can(length(var.workflow_token)) ? merge(local.environment, {
      WORKFLOW_RESULT_TOKEN = var.workflow_token
    }) : local.environment
  }
}
