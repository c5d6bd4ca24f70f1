variable "package" {
  description = "Path of the zip file with the program. Null is where `make package` puts it, dist/workflow-result.zip in the checkout that this module lies in."
  type        = string
  default     = null

  validation {
    condition     = try(fileexists(coalesce(var.package, "${path.module}/../../dist/workflow-result.zip")), false)
    error_message = "There is no package at this path: `make package` makes it."
  }
}

variable "kms_key_arn" {
  description = "ARN of a customer managed key that encrypts queues, journal and states; its key policy has to have what the output key_policy says. Null are the keys of SQS, DynamoDB and S3."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.kms_key_arn))
    error_message = "The key must be given as the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID, not as an ID or an alias."
  }
}

variable "state_bucket" {
  description = "Bucket of yours for the states, that of AWS's reference engine for example, and the ARN of its key where that is one of yours. Null makes a bucket."
  type = object({
    name        = string
    kms_key_arn = optional(string)
  })
  default = null

  validation {
    condition     = var.state_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.state_bucket.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens."
  }

  validation {
    condition     = try(var.state_bucket.kms_key_arn, null) == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.state_bucket.kms_key_arn))
    error_message = "The bucket's key must be given as the ARN of a KMS key, arn:aws:kms:REGION:ACCOUNT:key/ID, not as an ID or an alias."
  }
}

variable "deletion_protection" {
  description = "Whether `terraform destroy` stops at the journal and at the states. Set it to false, and apply, before you destroy the engine: what is owed, and the state of every product, are lost with it."
  type        = bool
  default     = true
  nullable    = false
}

variable "launch_role_arns" {
  description = "Launch roles that the engine may assume, as ARNs in which * and ? may stand for anything. Null is every role that trusts the engine, in whatever account."
  type        = set(string)
  default     = null

  validation {
    condition     = var.launch_role_arns == null ? true : length(var.launch_role_arns) > 0 && alltrue([for arn in var.launch_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9*?]+:role/[A-Za-z0-9+=,.@_/*?-]+$", arn))])
    error_message = "Each launch role must be given as the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME; * and ? are fine in ACCOUNT and NAME."
  }
}

variable "permissions_boundary" {
  description = "ARN of the policy that bounds the permissions of the engine's roles."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "The boundary must be given as the ARN of a policy, arn:aws:iam::ACCOUNT:policy/NAME."
  }
}

variable "terraform_version" {
  description = "Version of Terraform that runs the orders. Its checksum is in terraform_checksums."
  type        = string
  default     = "1.11.4"
  nullable    = false

  validation {
    condition     = contains(keys(var.terraform_checksums), var.terraform_version)
    error_message = "terraform_checksums has no checksum of this version: add the one of terraform_VERSION_linux_amd64.zip from HashiCorp's file terraform_VERSION_SHA256SUMS."
  }
}

variable "terraform_checksums" {
  description = "SHA-256 of terraform_VERSION_linux_amd64.zip, by version, as HashiCorp's file terraform_VERSION_SHA256SUMS has it."
  type        = map(string)
  default = {
    "1.11.4" = "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc"
    "1.12.2" = "1eaed12ca41fcfe094da3d76a7e9aa0639ad3409c43be0103ee9f5a1ff4b7437"
  }
  nullable = false

  validation {
    condition     = alltrue([for version, sum in var.terraform_checksums : can(regex("^[0-9]+[.][0-9]+[.][0-9]+(-[0-9a-z]+)?$", version)) && can(regex("^[0-9a-f]{64}$", sum))])
    error_message = "Each version, as 1.11.4, must have a SHA-256: 64 hexadecimal digits in lower case."
  }

  # `init` has no -json before.
  validation {
    condition     = !anytrue([for version in keys(var.terraform_checksums) : can(regex("^(0|1[.][0-8])[.]", version))])
    error_message = "The engine needs Terraform 1.9 or later."
  }
}

variable "terraform_url" {
  description = "Where Terraform is downloaded from: URL/VERSION/terraform_VERSION_linux_amd64.zip. A mirror of yours, for builds without a way to the internet; not asked where the image has that version already."
  type        = string
  default     = "https://releases.hashicorp.com/terraform"
  nullable    = false

  validation {
    condition     = can(regex("^(https|file)://[^\\s'\"$`\\\\]+[^/\\s'\"$`\\\\]$", var.terraform_url))
    error_message = "The URL must begin with https:// or file://, and must not end with a slash."
  }
}

variable "image" {
  description = "Image that the builds run in. One of yours needs bash, curl, sha256sum, git and, as `python`, the Python that the package was made for."
  type        = string
  default     = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
  nullable    = false

  validation {
    condition     = can(regex("^[^\\s:]+(:[0-9]+/\\S+)?(:[^\\s:]+)?(@sha256:[0-9a-f]{64})?$", var.image))
    error_message = "The image must be given as CodeBuild takes it: aws/codebuild/NAME:TAG, or REGISTRY/NAME:TAG."
  }

  validation {
    condition     = !can(regex("^aws/codebuild/.*(aarch64|windows|lambda)", var.image))
    error_message = "The image must be one for Linux on x86_64, which the program's package and Terraform are for."
  }
}

variable "compute_type" {
  description = "Size of the machine that a build runs on."
  type        = string
  default     = "BUILD_GENERAL1_SMALL"
  nullable    = false

  validation {
    condition     = can(regex("^BUILD_GENERAL1_(SMALL|MEDIUM|LARGE|XLARGE|2XLARGE)$", var.compute_type))
    error_message = "The compute type must be BUILD_GENERAL1_SMALL, _MEDIUM, _LARGE, _XLARGE or _2XLARGE."
  }
}

variable "timeout" {
  description = "Minutes that Terraform has for one order before it is stopped and the order FAILED."
  type        = number
  default     = 120
  nullable    = false

  # A build runs for 36 hours at most, and has to have time left for the report.
  validation {
    condition     = var.timeout >= 5 && var.timeout <= 2130 && floor(var.timeout) == var.timeout
    error_message = "The timeout must be 5 to 2,130 minutes: CodeBuild ends a build after 36 hours, and half an hour of that is for the engine."
  }
}

variable "concurrent_builds" {
  description = "How many builds may run at the same time; other orders wait in the journal. Null is what CodeBuild allows your account."
  type        = number
  default     = null

  validation {
    condition     = var.concurrent_builds == null ? true : var.concurrent_builds >= 1 && floor(var.concurrent_builds) == var.concurrent_builds
    error_message = "The number of concurrent builds must be 1 or more."
  }
}

variable "vpc" {
  description = "VPC that the builds run in. Its subnets need a way to AWS's services, to Terraform's providers, and to whatever they manage. Null is none."
  type = object({
    id                 = string
    subnet_ids         = set(string)
    security_group_ids = set(string)
  })
  default = null

  validation {
    condition = var.vpc == null ? true : (
      can(regex("^vpc-[0-9a-f]+$", var.vpc.id))
      && length(var.vpc.subnet_ids) > 0
      && alltrue([for id in var.vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
      && length(var.vpc.security_group_ids) > 0
      && alltrue([for id in var.vpc.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    )
    error_message = "A VPC needs its ID, vpc-…, one subnet or more, subnet-…, and one security group or more, sg-…."
  }
}

variable "environment" {
  description = "Environment variables of the builds, of Terraform and its providers too: HTTPS_PROXY and NO_PROXY for example, or WORKFLOW_RESULT_LOG, json for logs that programs read. Everybody who may see the CodeBuild project sees them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && (name == "WORKFLOW_RESULT_LOG" || !can(regex("^(CODEBUILD|TERRAFORM|WORKFLOW_RESULT)_", name)))])
    error_message = "A variable's name has letters, digits and underscores, and begins neither with a digit nor with CODEBUILD_, TERRAFORM_ or WORKFLOW_RESULT_ (but for WORKFLOW_RESULT_LOG)."
  }
}

variable "secrets" {
  description = "Environment variables of the builds that are secret: names to ARNs of secrets in Secrets Manager, with :JSON-KEY behind it if wanted, or of parameters in Parameter Store. TF_TOKEN_app_terraform_io for a private registry, for example. Artifacts can read them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.secrets) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name)) && !can(regex("^(CODEBUILD|TERRAFORM|WORKFLOW_RESULT)_", name))])
    error_message = "A variable's name has letters, digits and underscores, and begins neither with a digit nor with CODEBUILD_, TERRAFORM_ or WORKFLOW_RESULT_."
  }

  validation {
    condition     = alltrue([for arn in values(var.secrets) : can(regex("^arn:aws[a-z-]*:(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+(:[^:]*){0,3}|ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9/_.-]+)$", arn))])
    error_message = "Each secret must be given as the ARN of a secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX, or of a parameter, arn:aws:ssm:REGION:ACCOUNT:parameter/NAME."
  }

  validation {
    condition     = length(setintersection(keys(var.secrets), keys(var.environment))) == 0
    error_message = "These are in environment, too: ${join(", ", setintersection(keys(var.secrets), keys(var.environment)))}."
  }
}

variable "log_link" {
  description = "Whether the last line of a FailureReason links to the log of the build, which needs rights in the engine's account."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "Days that logs are kept, of builds and functions."
  type        = number
  default     = 90
  nullable    = false

  # What CloudWatch Logs takes.
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch Logs keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics, or other targets of CloudWatch alarms, that hear of alarms and of their end."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.alarm_topic_arns) <= 5 && alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$", arn))])
    error_message = "Give at most five ARNs, arn:aws:sns:REGION:ACCOUNT:TOPIC."
  }
}
