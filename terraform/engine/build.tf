# What runs Terraform: a build for each order. From `start` it gets the record's ID and nothing else;
# the message, which has the WorkflowToken, is in the journal.

locals {
  # CodeBuild gives each build a fresh machine and, where it can, these folders of an earlier one. Code of
  # other artifacts may have been at them: Terraform takes a provider from there only where the artifact's
  # lock file has its checksum, and of Terraform it is the zip file that is kept, whose checksum is looked at.
  cached = ["downloads", "providers"]

  # One shell runs them all (buildspec version 0.2), in the folder that the package is unpacked in.
  commands = {
    install = [
      "export PATH=\"$PWD/tools:$PATH\" TF_PLUGIN_CACHE_DIR=\"$${TF_PLUGIN_CACHE_DIR:-$PWD/providers}\"",
      "mkdir -p providers",
      "bash install-terraform.sh",
    ]
    build = concat(
      var.log_link ? ["export WORKFLOW_RESULT_LOG_URL=\"$CODEBUILD_BUILD_URL\""] : [],
      ["python main.py worker --record \"$WORKFLOW_RESULT_RECORD\" --timeout ${var.timeout * 60}"],
    )
  }

  build_environment = {
    WORKFLOW_RESULT_JOURNAL      = module.journal.journal
    WORKFLOW_RESULT_STATE_BUCKET = local.state_bucket
    TERRAFORM_VERSION            = var.terraform_version
    TERRAFORM_SHA256             = var.terraform_checksums[var.terraform_version]
    TERRAFORM_URL                = var.terraform_url
  }

  managed_image = startswith(var.image, "aws/codebuild/")
  ecr_image     = try(regex("^(?P<account>[0-9]{12})[.]dkr[.]ecr[.](?P<region>[a-z0-9-]+)[.][^/]+/(?P<name>[^:@]+)", var.image), null)

  buildspec = {
    version = "0.2"
    env     = { shell = "bash" }
    phases = {
      # An image of one's own has the versions it has, and CodeBuild refuses to choose there.
      install = merge({ commands = local.commands.install }, local.managed_image ? { runtime-versions = { python = local.python } } : {})
      build   = { commands = local.commands.build }
    }
    cache = { paths = [for folder in local.cached : "${folder}/**/*"] }
  }

  # Half an hour to install, to wait for the state's lock, and to report.
  build_timeout = var.timeout + 30

  # CodeBuild wants a parameter's name, which has a slash in front where it has one inside.
  secrets = {
    for name, arn in var.secrets : name => (
      strcontains(arn, ":ssm:")
      ? { type = "PARAMETER_STORE", value = replace(split(":parameter/", arn)[1], "/^(.*/)/", "/$1") }
      : { type = "SECRETS_MANAGER", value = arn }
    )
  }
}

resource "aws_cloudwatch_log_group" "build" {
  name              = "/aws/codebuild/${local.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_codebuild_project" "this" {
  name                   = local.name
  description            = "Runs Terraform for an order of Service Catalog"
  service_role           = aws_iam_role.this["build"].arn
  build_timeout          = local.build_timeout
  queued_timeout         = 480 # as long as CodeBuild has it
  concurrent_build_limit = var.concurrent_builds

  source {
    type      = "S3"
    location  = "${aws_s3_object.package.bucket}/${aws_s3_object.package.key}"
    buildspec = yamlencode(local.buildspec)
  }

  artifacts {
    type = "NO_ARTIFACTS"
  }

  # CodeBuild caches nothing of its own in a VPC.
  cache {
    type  = var.vpc == null ? "LOCAL" : "NO_CACHE"
    modes = var.vpc == null ? ["LOCAL_CUSTOM_CACHE"] : []
  }

  environment {
    type                        = "LINUX_CONTAINER"
    compute_type                = var.compute_type
    image                       = var.image
    image_pull_credentials_type = local.managed_image ? "CODEBUILD" : "SERVICE_ROLE"

    dynamic "environment_variable" {
      for_each = merge(
        { for name, value in merge(local.build_environment, var.environment) : name => { type = "PLAINTEXT", value = value } },
        local.secrets,
      )

      content {
        name  = environment_variable.key
        type  = environment_variable.value.type
        value = environment_variable.value.value
      }
    }
  }

  logs_config {
    cloudwatch_logs {
      group_name = aws_cloudwatch_log_group.build.name
    }
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      vpc_id             = vpc_config.value.id
      subnets            = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.this] # CodeBuild looks whether the role may use the VPC
}
