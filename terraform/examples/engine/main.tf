# An engine, and a portfolio with one product that it makes: the S3 bucket of ../s3-bucket.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  name      = "engine-example"
}

module "engine" {
  source = "../../engine"

  launch_role_arns = [aws_iam_role.launch.arn]

  # So that the example can be removed. Leave it out where there are products that you want to keep.
  deletion_protection = false
}

# Service Catalog takes a copy of the artifact when a version of the product is made.
resource "aws_s3_bucket" "artifacts" {
  bucket        = "${local.name}-artifacts-${local.account}-${data.aws_region.current.id}"
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "artifacts" {
  bucket                  = aws_s3_bucket.artifacts.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_object" "artifact" {
  bucket      = aws_s3_bucket.artifacts.bucket
  key         = "s3-bucket-${substr(filesha256(var.artifact), 0, 16)}.tar.gz"
  source      = var.artifact
  source_hash = filesha256(var.artifact)
}

resource "aws_servicecatalog_portfolio" "this" {
  name          = local.name
  description   = "Products made by Terraform"
  provider_name = "Platform team"
}

resource "aws_servicecatalog_product" "bucket" {
  name        = "${local.name}-bucket"
  description = "An S3 bucket"
  owner       = "Platform team"
  type        = "EXTERNAL"

  provisioning_artifact_parameters {
    name                        = "1"
    description                 = "A bucket with the name that is asked for"
    type                        = "EXTERNAL"
    template_url                = "https://${aws_s3_bucket.artifacts.bucket_regional_domain_name}/${aws_s3_object.artifact.key}"
    disable_template_validation = true # it is no CloudFormation template
  }

  depends_on = [module.engine] # Service Catalog asks its parser
}

resource "aws_servicecatalog_product_portfolio_association" "bucket" {
  portfolio_id = aws_servicecatalog_portfolio.this.id
  product_id   = aws_servicecatalog_product.bucket.id
}

resource "aws_servicecatalog_principal_portfolio_association" "this" {
  portfolio_id  = aws_servicecatalog_portfolio.this.id
  principal_arn = var.principal_arn
}

# EXTERNAL products have launch roles by this constraint alone.
resource "aws_servicecatalog_constraint" "launch" {
  description  = "Made with the launch role"
  portfolio_id = aws_servicecatalog_portfolio.this.id
  product_id   = aws_servicecatalog_product.bucket.id
  type         = "LAUNCH"
  parameters   = jsonencode({ RoleArn = aws_iam_role.launch.arn })

  depends_on = [aws_servicecatalog_product_portfolio_association.bucket]
}
