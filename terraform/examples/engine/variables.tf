variable "principal_arn" {
  description = "ARN of the IAM user, group or role that may order the product."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(user|group|role)/.+$", var.principal_arn))
    error_message = "The principal must be given as the ARN of a user, group or role, arn:aws:iam::ACCOUNT:role/NAME."
  }
}

variable "artifact" {
  description = "Path of the product's artifact, a tar.gz archive with the Terraform configuration at its top."
  type        = string
  default     = "s3-bucket.tar.gz"

  validation {
    condition     = fileexists(var.artifact)
    error_message = "There is no archive at this path: README.md says how it is made."
  }
}
