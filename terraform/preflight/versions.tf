terraform {
  required_version = ">= 1.9" # validation that looks at another variable

  required_providers {
    external = {
      source  = "hashicorp/external"
      version = ">= 2.0"
    }
  }
}
