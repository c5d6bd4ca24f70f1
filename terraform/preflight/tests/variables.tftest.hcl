# terraform init && terraform test
#
# What is refused before main.py runs, and what it is asked. The provider is a mock.

mock_provider "external" {}

variables {
  record_id = "rec-1"
}

run "asks_for_names_and_descriptions_without_values" {
  variables {
    outputs             = { url = "https://example.com", zones = ["a"] }
    output_descriptions = { url = "Where the product answers" }
    resource_identifier = { value = "pp-1" }
  }

  assert {
    condition = jsondecode(data.external.validate.query.Outputs) == [
      { OutputKey = "url", Description = "Where the product answers" },
      { OutputKey = "zones", Description = null },
    ]
    error_message = "The names and descriptions must be asked for, and no values."
  }

  assert {
    condition = jsondecode(data.external.validate.query.ResourceIdentifier) == {
      UniqueTag = { Key = "SERVICE_CATALOG_TERRAFORM_INTEGRATION-DO_NOT_DELETE", Value = "pp-1" }
    }
    error_message = "The tag must be Service Catalog's tracer tag."
  }
}

run "leaves_out_what_update_does_not_take" {
  variables {
    operation           = "update"
    resource_identifier = { value = "pp-1" }
  }

  assert {
    condition     = data.external.validate.query.ResourceIdentifier == null
    error_message = "An update must have no ResourceIdentifier."
  }
}

run "leaves_out_what_terminate_does_not_take" {
  variables {
    operation = "terminate"
    outputs   = { url = "https://example.com" }
  }

  assert {
    condition     = data.external.validate.query.Outputs == null
    error_message = "A termination must have no Outputs."
  }
}

run "refuses_an_unknown_operation" {
  command = plan
  variables {
    operation = "PROVISION_PRODUCT"
  }
  expect_failures = [var.operation]
}

run "refuses_descriptions_of_outputs_that_do_not_exist" {
  command = plan
  variables {
    outputs             = { url = "a" }
    output_descriptions = { ulr = "Where the product answers" }
  }
  expect_failures = [var.output_descriptions]
}

run "refuses_outputs_that_are_sensitive_as_a_whole" {
  command = plan
  variables {
    outputs = sensitive({ url = "a" })
  }
  expect_failures = [var.outputs]
}
