# What the product is made with: trusted by Service Catalog and by the engine, allowed what the product
# needs (https://docs.aws.amazon.com/servicecatalog/latest/adminguide/getstarted-launchrole-Terraform.html).

resource "aws_iam_role" "launch" {
  name = "${local.name}-launch"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "ServiceCatalog"
        Effect    = "Allow"
        Principal = { Service = "servicecatalog.amazonaws.com" }
        Action    = "sts:AssumeRole"
      },
      # The engine's roles by their names, so that the launch role outlives an engine that is made anew.
      {
        Sid       = "Engine"
        Effect    = "Allow"
        Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
        Action    = "sts:AssumeRole"
        Condition = {
          StringLike = {
            "aws:PrincipalArn" = [
              "arn:${local.partition}:iam::${local.account}:role/TerraformEngine/TerraformExecutionRole*",
              "arn:${local.partition}:iam::${local.account}:role/TerraformEngine/ServiceCatalogExternalParameterParserRole*",
            ]
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "launch" {
  name = "product"
  role = aws_iam_role.launch.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # Service Catalog's copy of the artifact is in a bucket of Service Catalog's.
      {
        Sid       = "Artifact"
        Effect    = "Allow"
        Action    = ["s3:GetObject"]
        Resource  = "arn:${local.partition}:s3:::*/*"
        Condition = { StringEquals = { "s3:ExistingObjectTag/servicecatalog:provisioning" = "true" } }
      },
      # Service Catalog makes a resource group of what has the product's tracer tag.
      {
        Sid    = "ResourceGroup"
        Effect = "Allow"
        Action = [
          "resource-groups:CreateGroup",
          "resource-groups:ListGroupResources",
          "resource-groups:DeleteGroup",
          "resource-groups:Tag",
          "tag:GetResources",
          "tag:GetTagKeys",
          "tag:GetTagValues",
          "tag:TagResources",
          "tag:UntagResources",
        ]
        Resource = "*"
      },
      # What the product needs: the AWS provider looks at all of a bucket, whatever is set.
      {
        Sid    = "Bucket"
        Effect = "Allow"
        Action = [
          "s3:CreateBucket",
          "s3:DeleteBucket",
          "s3:GetAccelerateConfiguration",
          "s3:GetBucketAcl",
          "s3:GetBucketCORS",
          "s3:GetBucketLocation",
          "s3:GetBucketLogging",
          "s3:GetBucketObjectLockConfiguration",
          "s3:GetBucketPolicy",
          "s3:GetBucketRequestPayment",
          "s3:GetBucketTagging",
          "s3:GetBucketVersioning",
          "s3:GetBucketWebsite",
          "s3:GetEncryptionConfiguration",
          "s3:GetLifecycleConfiguration",
          "s3:GetReplicationConfiguration",
          "s3:ListBucket",
          "s3:PutBucketTagging",
        ]
        Resource = "arn:${local.partition}:s3:::${local.name}-*"
      },
    ]
  })
}
