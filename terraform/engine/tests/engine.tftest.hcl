# terraform init && terraform test
#
# What the engine is made of, by the names that others rely on, and who may do what. The provider is a
# mock: what a linter says of the policies, and applying it for real, is for tests/served/. What is
# refused, and in what words, is for tests/served/test_engine_variables.py.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/workflow-result" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:queue" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::bucket" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/role" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:function" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:group" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/rule" }
  }
}

variables {
  package = "./main.tf" # any file will do
}

run "has_the_names_that_service_catalog_and_launch_roles_know" {
  assert {
    condition = [for queue in aws_sqs_queue.operation : queue.name] == [
      "ServiceCatalogExternalProvisionOperationQueue",
      "ServiceCatalogExternalTerminateOperationQueue",
      "ServiceCatalogExternalUpdateOperationQueue",
    ]
    error_message = "Service Catalog sends to queues of these names."
  }

  assert {
    condition     = aws_lambda_function.this["parser"].function_name == "ServiceCatalogExternalParameterParser"
    error_message = "Service Catalog calls the parser by this name."
  }

  assert {
    condition = { for key, role in aws_iam_role.this : key => "${role.path}${role.name}" } == {
      build  = "/TerraformEngine/TerraformExecutionRole-eu-central-1"
      parser = "/TerraformEngine/ServiceCatalogExternalParameterParserRole-eu-central-1"
      start  = "/TerraformEngine/WorkflowResultStart-eu-central-1"
      finish = "/TerraformEngine/WorkflowResultFinish-eu-central-1"
    }
    error_message = "Launch roles trust the first two by these names, and nobody else."
  }

  assert {
    condition = { for key, function in aws_lambda_function.this : key => function.handler } == {
      parser = "workflow_result.engine.functions.parse_parameters"
      start  = "workflow_result.engine.functions.start"
      finish = "workflow_result.engine.functions.finish"
    }
    error_message = "Each function must have its handler."
  }
}

run "loses_no_message" {
  assert {
    condition = alltrue([
      for queue in aws_sqs_queue.operation :
      queue.visibility_timeout_seconds >= 6 * aws_lambda_function.this["start"].timeout
      && jsondecode(queue.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dead_letters.arn, maxReceiveCount = 5 }
      && queue.message_retention_seconds == 14 * 24 * 60 * 60
      && queue.sqs_managed_sse_enabled
    ])
    error_message = "A message must come again, five times, then lie in the dead-letter queue; encrypted."
  }

  assert {
    condition = (
      aws_sqs_queue.dead_letters.message_retention_seconds == 14 * 24 * 60 * 60
      && aws_sqs_queue.dead_letters.visibility_timeout_seconds >= 6 * aws_lambda_function.this["finish"].timeout
      && aws_sqs_queue.dead_letters.sqs_managed_sse_enabled
    )
    error_message = "Dead letters must be kept for 14 days, encrypted."
  }

  assert {
    condition = alltrue([
      for mapping in concat(values(aws_lambda_event_source_mapping.start), [aws_lambda_event_source_mapping.finish]) :
      mapping.function_response_types == toset(["ReportBatchItemFailures"]) && mapping.scaling_config[0].maximum_concurrency <= 5
    ])
    error_message = "A message that fails must not take those beside it back to the queue."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.finish["schedule"].schedule_expression == "rate(5 minutes)"
    error_message = "Every five minutes somebody must see to what is due."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.finish["builds"].event_pattern) == {
      source        = ["aws.codebuild"]
      "detail-type" = ["CodeBuild Build State Change"]
      detail = {
        "project-name" = ["workflow-result"]
        "build-status" = ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
      }
    }
    error_message = "The end of every build of the engine, and of no other, must be heard of."
  }
}

run "keeps_states_safe" {
  assert {
    condition     = { for key, bucket in aws_s3_bucket.this : key => bucket.bucket } == { state = "workflow-result-state-123456789012-eu-central-1", package = "workflow-result-package-123456789012-eu-central-1" }
    error_message = "There must be a bucket for states, and one for the program."
  }

  assert {
    condition     = !aws_s3_bucket.this["state"].force_destroy && module.journal.journal == "dynamodb://workflow-result?region=eu-central-1"
    error_message = "A destroy must stop at the states."
  }

  assert {
    condition     = alltrue([for versioning in aws_s3_bucket_versioning.this : versioning.versioning_configuration[0].status == "Enabled"])
    error_message = "There must be versions of states."
  }

  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "Nothing may be public."
  }

  assert {
    condition     = alltrue([for controls in aws_s3_bucket_ownership_controls.this : controls.rule[0].object_ownership == "BucketOwnerEnforced"])
    error_message = "Everything must be the bucket owner's."
  }

  assert {
    condition = alltrue([
      for policy in aws_s3_bucket_policy.this : jsondecode(policy.policy).Statement == [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    ])
    error_message = "Nobody may come without TLS."
  }
}

run "lets_each_do_no_more_than_it_needs" {
  assert {
    condition = {
      for key, policy in aws_iam_role_policy.this : key => jsonencode(sort(flatten([for statement in jsondecode(policy.policy).Statement : statement.Action])))
      } == { for key, actions in {
        build = [
          "dynamodb:GetItem", "dynamodb:UpdateItem",
          "logs:CreateLogStream", "logs:PutLogEvents",
          "s3:DeleteObject", "s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetObject", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:PutObject",
          "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
          "servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult",
          "servicecatalog:NotifyUpdateProvisionedProductEngineWorkflowResult",
          "sts:AssumeRole",
        ]
        parser = ["logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "sts:AssumeRole"]
        start = [
          "codebuild:BatchGetBuilds", "codebuild:StartBuild",
          "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem",
          "logs:CreateLogStream", "logs:PutLogEvents",
          "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
          "servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult",
          "servicecatalog:NotifyUpdateProvisionedProductEngineWorkflowResult",
          "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
        ]
        finish = [
          "codebuild:BatchGetBuilds", "codebuild:StartBuild",
          "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem",
          "logs:CreateLogStream", "logs:PutLogEvents",
          "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
          "servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult",
          "servicecatalog:NotifyUpdateProvisionedProductEngineWorkflowResult",
          "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
        ]
    } : key => jsonencode(actions) }
    error_message = "Somebody may do more or less than is written here."
  }

  # The linter and tests/served/test_engine_policies.py have the resources.
  assert {
    condition = alltrue([
      for policy in aws_sqs_queue_policy.operation : jsondecode(policy.policy).Statement[0] == {
        Sid       = "ServiceCatalog"
        Effect    = "Allow"
        Principal = { Service = "servicecatalog.amazonaws.com" }
        Action    = ["sqs:SendMessage", "sqs:GetQueueUrl"]
        Resource  = "arn:aws:sqs:eu-central-1:123456789012:queue"
      }
    ])
    error_message = "Service Catalog must be able to send, for whatever account."
  }

  assert {
    condition = {
      for key, role in aws_iam_role.this : key => one(jsondecode(role.assume_role_policy).Statement).Principal.Service
    } == { build = "codebuild.amazonaws.com", parser = "lambda.amazonaws.com", start = "lambda.amazonaws.com", finish = "lambda.amazonaws.com" }
    error_message = "Each role must be its service's alone."
  }

  assert {
    condition = one(jsondecode(aws_iam_role.this["build"].assume_role_policy).Statement).Condition == {
      StringEquals = { "aws:SourceAccount" = "123456789012" }
      ArnEquals    = { "aws:SourceArn" = "arn:aws:codebuild:eu-central-1:123456789012:project/workflow-result" }
    }
    error_message = "No other project may have the role that assumes launch roles."
  }

  assert {
    condition     = aws_lambda_permission.parser.principal == "servicecatalog.amazonaws.com" && aws_lambda_permission.parser.source_account == null
    error_message = "Service Catalog must be able to call the parser, for whatever account."
  }
}

run "gives_a_build_all_but_the_order" {
  assert {
    condition = { for variable in aws_codebuild_project.this.environment[0].environment_variable : variable.name => variable.value } == {
      WORKFLOW_RESULT_JOURNAL      = "dynamodb://workflow-result?region=eu-central-1"
      WORKFLOW_RESULT_STATE_BUCKET = "workflow-result-state-123456789012-eu-central-1"
      TERRAFORM_VERSION            = "1.11.4"
      TERRAFORM_SHA256             = "1ce994251c00281d6845f0f268637ba50c0005657eb3cf096b92f753b42ef4dc"
      TERRAFORM_URL                = "https://releases.hashicorp.com/terraform"
    }
    error_message = "A build must know its journal, its states and its Terraform."
  }

  assert {
    condition = yamldecode(aws_codebuild_project.this.source[0].buildspec).phases == {
      install = {
        runtime-versions = { python = "3.13" }
        commands = [
          "export PATH=\"$PWD/tools:$PATH\" TF_PLUGIN_CACHE_DIR=\"$${TF_PLUGIN_CACHE_DIR:-$PWD/providers}\"",
          "mkdir -p providers",
          "bash install-terraform.sh",
        ]
      }
      build = { commands = ["python main.py worker --record \"$WORKFLOW_RESULT_RECORD\" --timeout 7200"] }
    }
    error_message = "A build must install Terraform, and work on one record."
  }

  assert {
    condition     = aws_lambda_function.this["start"].runtime == "python3.13"
    error_message = "Functions and builds must have the same Python, the package's."
  }

  assert {
    condition = (
      aws_codebuild_project.this.build_timeout == 150 && aws_codebuild_project.this.queued_timeout == 480
      && aws_codebuild_project.this.concurrent_build_limit == null
      && aws_codebuild_project.this.environment[0].image_pull_credentials_type == "CODEBUILD"
      && aws_codebuild_project.this.cache[0].modes == tolist(["LOCAL_CUSTOM_CACHE"])
    )
    error_message = "A build must have half an hour more than Terraform, and a cache."
  }
}

run "tells_of_what_somebody_has_to_look_at" {
  variables {
    alarm_topic_arns = ["arn:aws:sns:eu-central-1:123456789012:engine"]
  }

  assert {
    condition = { for alarm in aws_cloudwatch_metric_alarm.journal : alarm.metric_name => alarm.threshold } == {
      OldestOwed    = 900
      Refused       = 0
      BuildsRefused = 0
      OldestRunning = 9900
      OldestWaiting = 9900
    }
    error_message = "There must be an alarm for a result that is owed or refused, for builds that are refused, and for an order that runs or waits too long."
  }

  assert {
    condition = (
      { for query in aws_cloudwatch_metric_alarm.not_taken.metric_query : one(query.metric[*].dimensions).QueueName => one(query.metric[*].metric_name) if length(query.metric) > 0 }
      == { for queue in aws_sqs_queue.operation : queue.name => "ApproximateAgeOfOldestMessage" }
    )
    error_message = "There must be an alarm for a message that nobody takes out of its queue."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.journal["oldest-owed"].treat_missing_data == "breaching"
    error_message = "There must be an alarm where nothing is heard of the journal."
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.journal), values(aws_cloudwatch_metric_alarm.function), [aws_cloudwatch_metric_alarm.dead_letters, aws_cloudwatch_metric_alarm.not_taken]) :
      alarm.alarm_actions == var.alarm_topic_arns && alarm.ok_actions == var.alarm_topic_arns && strcontains(alarm.alarm_description, "docs/engine.md")
    ])
    error_message = "Each alarm must go to the topics, and say what to do."
  }
}

run "takes_what_it_is_given" {
  variables {
    kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    deletion_protection  = false
    launch_role_arns     = ["arn:aws:iam::*:role/launch-*"]
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    terraform_version    = "1.12.2"
    terraform_url        = "file:///srv/terraform"
    image                = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/team/terraform:1"
    compute_type         = "BUILD_GENERAL1_LARGE"
    timeout              = 2130
    concurrent_builds    = 3
    vpc                  = { id = "vpc-1", subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    environment          = { HTTPS_PROXY = "http://proxy.example.com:3128" }
    secrets = {
      TF_TOKEN_app_terraform_io = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry-AbCdEf:token"
      GITHUB_TOKEN              = "arn:aws:ssm:eu-central-1:123456789012:parameter/engine/github"
      PLAIN                     = "arn:aws:ssm:eu-central-1:123456789012:parameter/plain"
    }
    log_link           = true
    log_retention_days = 7
  }

  assert {
    condition = alltrue([
      for queue in concat(values(aws_sqs_queue.operation), [aws_sqs_queue.dead_letters]) :
      queue.kms_master_key_id == var.kms_key_arn
    ])
    error_message = "The queues must have the key."
  }

  assert {
    condition = (
      one(one(aws_s3_bucket_server_side_encryption_configuration.this["state"].rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
      && one(one(aws_s3_bucket_server_side_encryption_configuration.this["package"].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    )
    error_message = "The states must have the key."
  }

  assert {
    condition = {
      for key, policy in aws_iam_role_policy.this : key => join(" ", sort([
        for statement in jsondecode(policy.policy).Statement : statement.Condition.StringEquals["kms:ViaService"] if contains(flatten([statement.Action]), "kms:Decrypt")
      ]))
      } == {
      build  = "dynamodb.eu-central-1.amazonaws.com s3.eu-central-1.amazonaws.com"
      parser = ""
      start  = "dynamodb.eu-central-1.amazonaws.com sqs.eu-central-1.amazonaws.com"
      finish = "dynamodb.eu-central-1.amazonaws.com sqs.eu-central-1.amazonaws.com"
    }
    error_message = "Each must use the key through the services that it reads from, and only so."
  }

  assert {
    condition     = one([for statement in jsondecode(output.key_policy).Statement : statement.Action]) == ["kms:DescribeKey", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"]
    error_message = "The key's policy must let Service Catalog send."
  }

  assert {
    condition     = aws_s3_bucket.this["state"].force_destroy
    error_message = "A destroy must be possible."
  }

  assert {
    condition = alltrue([
      for key in ["build", "parser"] : [
        for statement in jsondecode(aws_iam_role_policy.this[key].policy).Statement : statement.Resource if statement.Sid == "LaunchRoles"
      ] == [["arn:aws:iam::*:role/launch-*"]]
    ])
    error_message = "Only these launch roles may be assumed."
  }

  assert {
    condition = (
      alltrue([for function in aws_lambda_function.this : function.environment[0].variables.WORKFLOW_RESULT_LOG == "json"])
      && [for key, function in aws_lambda_function.this : key if lookup(function.environment[0].variables, "WORKFLOW_RESULT_LOG_LINK", null) != null] == ["finish", "start"]
    )
    error_message = "Functions must log for programs, and those that report must link to the log."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.this : role.permissions_boundary == var.permissions_boundary])
    error_message = "Each role must have the boundary."
  }

  assert {
    condition = { for variable in aws_codebuild_project.this.environment[0].environment_variable : variable.name => [variable.type, variable.value] if !startswith(variable.name, "WORKFLOW_RESULT_") } == {
      TERRAFORM_VERSION         = ["PLAINTEXT", "1.12.2"]
      TERRAFORM_SHA256          = ["PLAINTEXT", "1eaed12ca41fcfe094da3d76a7e9aa0639ad3409c43be0103ee9f5a1ff4b7437"]
      TERRAFORM_URL             = ["PLAINTEXT", "file:///srv/terraform"]
      HTTPS_PROXY               = ["PLAINTEXT", "http://proxy.example.com:3128"]
      TF_TOKEN_app_terraform_io = ["SECRETS_MANAGER", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry-AbCdEf:token"]
      GITHUB_TOKEN              = ["PARAMETER_STORE", "/engine/github"]
      PLAIN                     = ["PARAMETER_STORE", "plain"]
    }
    error_message = "The build must have what is given, and secrets by reference alone."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.this["build"].policy).Statement : statement.Sid => statement.Resource if contains(["Secrets", "Parameters", "Image"], statement.Sid)
      } == {
      Secrets    = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry-AbCdEf"]
      Parameters = ["arn:aws:ssm:eu-central-1:123456789012:parameter/engine/github", "arn:aws:ssm:eu-central-1:123456789012:parameter/plain"]
      Image      = "arn:aws:ecr:eu-west-1:210987654321:repository/team/terraform"
    }
    error_message = "The build must be able to read these secrets and this image, and no other."
  }

  assert {
    condition = (
      yamldecode(aws_codebuild_project.this.source[0].buildspec).phases.install == {
        commands = [
          "export PATH=\"$PWD/tools:$PATH\" TF_PLUGIN_CACHE_DIR=\"$${TF_PLUGIN_CACHE_DIR:-$PWD/providers}\"",
          "mkdir -p providers",
          "bash install-terraform.sh",
        ]
      }
      && yamldecode(aws_codebuild_project.this.source[0].buildspec).phases.build.commands == [
        "export WORKFLOW_RESULT_LOG_URL=\"$CODEBUILD_BUILD_URL\"",
        "python main.py worker --record \"$WORKFLOW_RESULT_RECORD\" --timeout 127800",
      ]
    )
    error_message = "An image of one's own has its own Python, and the log's link must be passed on."
  }

  assert {
    condition = (
      aws_codebuild_project.this.build_timeout == 2160
      && aws_codebuild_project.this.concurrent_build_limit == 3
      && aws_codebuild_project.this.environment[0].compute_type == "BUILD_GENERAL1_LARGE"
      && aws_codebuild_project.this.environment[0].image_pull_credentials_type == "SERVICE_ROLE"
      && aws_codebuild_project.this.vpc_config[0].vpc_id == "vpc-1"
      && aws_codebuild_project.this.cache[0].type == "NO_CACHE"
    )
    error_message = "The build must be as it is asked for."
  }

  assert {
    condition     = alltrue([for group in concat(values(aws_cloudwatch_log_group.function), [aws_cloudwatch_log_group.build]) : group.retention_in_days == 7])
    error_message = "Logs must be kept as long as is asked for."
  }
}

run "uses_a_state_bucket_that_is_there" {
  variables {
    state_bucket = {
      name        = "sc-terraform-engine-state-123456789012-eu-central-1"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
    }
  }

  assert {
    condition     = keys(aws_s3_bucket.this) == ["package"] && output.state_bucket == var.state_bucket.name
    error_message = "No bucket for states must be made."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.this["build"].policy).Statement : statement.Sid => statement.Resource if contains(["States", "StateBucket", "StateKey"], statement.Sid)
      } == {
      States      = "arn:aws:s3:::sc-terraform-engine-state-123456789012-eu-central-1/*"
      StateBucket = "arn:aws:s3:::sc-terraform-engine-state-123456789012-eu-central-1"
      StateKey    = var.state_bucket.kms_key_arn
    }
    error_message = "The build must be able to use that bucket and its key."
  }
}

run "is_at_home_in_other_partitions" {
  variables {
    kms_key_arn = "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    image       = "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn/terraform"
    vpc         = { id = "vpc-1", subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }

  # What mocked resources are called is the mock's.
  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.this["build"].policy).Statement : statement.Sid => statement.Resource if contains(["LaunchRoles", "States", "Image", "LendNetwork"], statement.Sid)
      } == {
      LaunchRoles = ["arn:aws-cn:iam::*:role/*"]
      States      = "arn:aws-cn:s3:::workflow-result-state-123456789012-cn-north-1/*"
      Image       = "arn:aws-cn:ecr:cn-north-1:210987654321:repository/terraform"
      LendNetwork = "arn:aws-cn:ec2:cn-north-1:123456789012:network-interface/*"
    }
    error_message = "ARNs must have the partition."
  }

  assert {
    condition     = one([for statement in jsondecode(aws_iam_role_policy.this["parser"].policy).Statement : statement.Resource if statement.Sid == "Artifacts"]) == "arn:aws-cn:s3:::*/*"
    error_message = "ARNs must have the partition."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this["start"].policy).Statement :
      endswith(statement.Condition.StringEquals["kms:ViaService"], ".cn-north-1.amazonaws.com.cn") if statement.Sid == "QueueKey"
    ])
    error_message = "Services must be those of the partition."
  }
}
