# terraform init && terraform test
#
# What is taken and what is refused at plan. Applying it is for tests/test_terraform_report.py:
# terraform test 1.11 cannot apply a module with an ephemeral variable that is not set.

variables {
  record_id = "rec-1"
}

run "takes_the_least" {
  command = plan
}

run "takes_everything" {
  command = plan
  variables {
    operation           = "provision"
    outputs             = { text = "a", number = 1.5, list = [1, "a"], none = null, object = { a = [true] } }
    output_descriptions = { text = "Text" }
    resource_identifier = { key = "a key: é", value = "pp-1" }
    workflow_token      = "965d4597-3088-41ae-87dc-3498daf1d69d"
  }
}

run "takes_outputs_that_fit" {
  command = plan
  variables {
    outputs = { a = join("", [for i in range(650) : format("%0200d", i)]) }
  }
}

run "refuses_outputs_that_are_too_long" {
  command = plan
  variables {
    outputs = { a = join("", [for i in range(660) : format("%0200d", i)]) }
  }
  expect_failures = [terraform_data.report]
}

run "counts_bytes_and_not_characters" {
  command = plan
  variables {
    outputs = { a = join("", [for i in range(700) : replace(format("%0100d", i), "0", "é")]) }
  }
  expect_failures = [terraform_data.report]
}

run "refuses_an_unknown_operation" {
  command = plan
  variables {
    operation = "PROVISION_PRODUCT"
  }
  expect_failures = [var.operation]
}

run "refuses_a_record_id_that_is_none" {
  command = plan
  variables {
    record_id = "rec 1"
  }
  expect_failures = [var.record_id]
}

run "refuses_outputs_without_names" {
  command = plan
  variables {
    outputs = ["a"]
  }
  expect_failures = [var.outputs]
}

run "refuses_outputs_that_are_sensitive_as_a_whole" {
  command = plan
  variables {
    outputs = sensitive({ url = "a" })
  }
  expect_failures = [var.outputs]
}

run "refuses_descriptions_of_outputs_that_do_not_exist" {
  command = plan
  variables {
    outputs             = { url = "a" }
    output_descriptions = { ulr = "Where the product answers" }
  }
  expect_failures = [var.output_descriptions]
}

run "refuses_a_tag_key_that_aws_refuses" {
  command = plan
  variables {
    resource_identifier = { key = "key!", value = "pp-1" }
  }
  expect_failures = [var.resource_identifier]
}

run "refuses_an_empty_tag_value" {
  command = plan
  variables {
    resource_identifier = { value = "" }
  }
  expect_failures = [var.resource_identifier]
}

run "refuses_a_token_with_other_characters" {
  command = plan
  variables {
    workflow_token = "a~b"
  }
  expect_failures = [var.workflow_token]
}

run "refuses_a_token_that_is_too_long" {
  command = plan
  variables {
    workflow_token = join("", [for i in range(201) : format("%0100d", i)])
  }
  expect_failures = [var.workflow_token]
}

run "refuses_an_empty_program" {
  command = plan
  variables {
    program = []
  }
  expect_failures = [var.program]
}
