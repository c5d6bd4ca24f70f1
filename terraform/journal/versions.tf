terraform {
  required_version = ">= 1.7" # mock_provider in the tests

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Newer versions of 6 warn that hash_key and range_key of an index are deprecated. What takes
      # their place, key_schema, 5 does not have; 7 may not have them.
      version = ">= 5.0, < 7.0"
    }
  }
}
