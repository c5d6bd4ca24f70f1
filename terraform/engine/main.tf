# An engine for Service Catalog's products of type EXTERNAL, as AWS's administrator guide has it
# (https://docs.aws.amazon.com/servicecatalog/latest/adminguide/external-engine.html): what follows from
# one file to the next is a message, from queues.tf to functions.tf to build.tf.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # `id` is the region's name in all versions of the provider; `name` is deprecated in 6.
  region = data.aws_region.current.id

  # An account has one engine in a region, whose names Service Catalog gives; the others are like them.
  name = "workflow-result"

  python = "3.13" # what `make package` installs the dependencies for
}

module "journal" {
  source = "../journal"

  name                = local.name
  kms_key_arn         = var.kms_key_arn
  deletion_protection = var.deletion_protection
}
