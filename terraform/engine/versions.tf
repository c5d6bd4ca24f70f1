terraform {
  required_version = ">= 1.9" # a variable's validation may look at another variable

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.76, < 7.0" # 5.76 knows python3.13; for 7 see the module journal
    }
  }
}
