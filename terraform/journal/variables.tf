variable "name" {
  description = "Name of the table: what comes after dynamodb:// in the journal's URL. One table serves any number of machines and engines of an account and region."
  type        = string
  default     = "workflow-result"
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_.-]{3,255}$", var.name))
    error_message = "A table's name has 3 to 255 letters, digits, hyphens, dots and underscores."
  }
}

variable "kms_key_arn" {
  description = "ARN of a customer managed key that encrypts the table; its key policy has to let DynamoDB use it. Null is AWS's managed key for DynamoDB, or the key that the table has already."
  type        = string
  default     = null

  # DynamoDB takes an alias, too, but no IAM policy for the use of a key does.
  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.kms_key_arn))
    error_message = "The key must be given as the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID, not as an ID or an alias."
  }
}

variable "deletion_protection" {
  description = "Whether DynamoDB refuses to delete the table. Set it to false, and apply, before you destroy it: what is owed is lost with the table."
  type        = bool
  default     = true
  nullable    = false
}

variable "tags" {
  description = "Tags of the table."
  type        = map(string)
  default     = {}
  nullable    = false
}
