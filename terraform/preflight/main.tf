# Checks at plan that the result which `report` will send is one that Service Catalog takes.

data "external" "validate" {
  # --input=-: a request in the environment is another one.
  program = concat(var.program, ["validate", "--partial", "--operation=${var.operation}", "--input=-"])

  # Nothing in here may be unknown at plan, or Terraform reads this no sooner than at apply. AWS
  # sets no rule for the values of outputs, so they can stay away, and out of the state.
  query = {
    RecordId = var.record_id
    Status   = "SUCCEEDED"
    Outputs = var.operation == "terminate" ? null : jsonencode([
      for name in keys(var.outputs) : {
        OutputKey   = name
        Description = lookup(var.output_descriptions, name, null)
      }
    ])
    ResourceIdentifier = var.operation != "provision" || var.resource_identifier == null ? null : jsonencode({
      UniqueTag = {
        Key   = var.resource_identifier.key
        Value = var.resource_identifier.value
      }
    })
  }
}
