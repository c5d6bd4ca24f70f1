# The bucket with the states, and the one with the program. Artifacts run with rights to the former,
# so the program lies in the latter.

locals {
  buckets = merge(
    { package = "${local.name}-package-${local.account}-${local.region}" },
    var.state_bucket == null ? { state = "${local.name}-state-${local.account}-${local.region}" } : {},
  )

  state_bucket     = var.state_bucket == null ? aws_s3_bucket.this["state"].bucket : var.state_bucket.name
  state_bucket_arn = "arn:${local.partition}:s3:::${local.state_bucket}"
  state_key_arn    = var.state_bucket == null ? var.kms_key_arn : var.state_bucket.kms_key_arn

  package = coalesce(var.package, "${path.module}/../../dist/workflow-result.zip")

  tls_only = {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = { AWS = "*" }
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket        = each.value
  force_destroy = each.key == "package" || !var.deletion_protection
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    bucket_key_enabled = local.kms_buckets[each.key]

    apply_server_side_encryption_by_default {
      sse_algorithm     = local.kms_buckets[each.key] ? "aws:kms" : "AES256"
      kms_master_key_id = local.kms_buckets[each.key] ? var.kms_key_arn : null
    }
  }
}

locals {
  # The program is no secret, so that functions and builds need no key for it.
  kms_buckets = { package = false, state = var.kms_key_arn != null }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.tls_only, { Action = "s3:*", Resource = [each.value.arn, "${each.value.arn}/*"] })]
  })
}

# Of each state, and of each lock, there is a version for every change.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = aws_s3_bucket_versioning.this # which has to be there first

  bucket = each.value.bucket

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 90
    }

    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

# One key for all versions: a build that has been waiting since before an upgrade finds its source.
resource "aws_s3_object" "package" {
  bucket      = aws_s3_bucket_versioning.this["package"].bucket
  key         = "${local.name}.zip"
  source      = local.package
  source_hash = filesha256(local.package)
}
