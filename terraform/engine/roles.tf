# Who may do what. The names of `build` and `parser` are those that launch roles trust, also where
# AWS's reference engine has been before.

locals {
  roles = {
    build = {
      name    = "TerraformExecutionRole-${local.region}"
      service = "codebuild.amazonaws.com"
      condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnEquals    = { "aws:SourceArn" = local.project_arn }
      }
      statements = concat(
        local.statements.launch_roles,
        local.statements.report,
        local.statements.state,
        local.statements.package,
        local.statements.secrets,
        local.statements.image,
        local.statements.network,
        jsondecode(module.journal.report_policy).Statement,
      )
    }
    parser = {
      name      = "ServiceCatalogExternalParameterParserRole-${local.region}"
      service   = "lambda.amazonaws.com"
      condition = {}
      statements = concat(
        local.statements.launch_roles,
        local.statements.artifacts,
      )
    }
    start = {
      name       = "WorkflowResultStart-${local.region}"
      service    = "lambda.amazonaws.com"
      condition  = {}
      statements = concat([merge(local.receive, { Resource = [for queue in aws_sqs_queue.operation : queue.arn] })], local.see_to_orders)
    }
    finish = {
      name       = "WorkflowResultFinish-${local.region}"
      service    = "lambda.amazonaws.com"
      condition  = {}
      statements = concat([merge(local.receive, { Resource = [aws_sqs_queue.dead_letters.arn] })], local.see_to_orders)
    }
  }

  # Both start what is due in the journal, and end an order that cannot be carried out.
  see_to_orders = concat(
    local.statements.builds,
    local.statements.report,
    local.sqs_key,
    jsondecode(module.journal.resend_policy).Statement,
  )

  log_groups = merge(aws_cloudwatch_log_group.function, { build = aws_cloudwatch_log_group.build })

  project_arn = "arn:${local.partition}:codebuild:${local.region}:${local.account}:project/${local.name}"

  receive = {
    Sid    = "Queues"
    Effect = "Allow"
    Action = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
  }

  statements = {
    launch_roles = [{
      Sid      = "LaunchRoles"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole"]
      Resource = sort(coalesce(var.launch_role_arns, ["arn:${local.partition}:iam::*:role/*"]))
    }]

    # The Notify operations have no resource
    # (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsservicecatalog.html).
    report = [{
      Sid    = "Report"
      Effect = "Allow"
      Action = [
        "servicecatalog:NotifyProvisionProductEngineWorkflowResult",
        "servicecatalog:NotifyUpdateProvisionedProductEngineWorkflowResult",
        "servicecatalog:NotifyTerminateProvisionedProductEngineWorkflowResult",
      ]
      Resource = "*"
    }]

    # Without s3:ListBucket, what is not there is said to be forbidden.
    state = concat(
      [
        {
          Sid      = "States"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
          Resource = "${local.state_bucket_arn}/*"
        },
        {
          Sid      = "StateBucket"
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = local.state_bucket_arn
        },
      ],
      local.state_key_arn == null ? [] : [{
        Sid       = "StateKey"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = local.state_key_arn
        Condition = { StringEquals = { "kms:ViaService" = "s3.${local.region}.${data.aws_partition.current.dns_suffix}" } }
      }],
    )

    package = [
      {
        Sid      = "Package"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = "${aws_s3_bucket.this["package"].arn}/${local.name}.zip"
      },
      # CodeBuild looks whose bucket its source is in.
      {
        Sid      = "PackageBucket"
        Effect   = "Allow"
        Action   = ["s3:GetBucketAcl", "s3:GetBucketLocation"]
        Resource = aws_s3_bucket.this["package"].arn
      },
    ]

    # Where a product has no launch role, the parser reads its artifact itself: only such as Service
    # Catalog has put there.
    artifacts = [{
      Sid       = "Artifacts"
      Effect    = "Allow"
      Action    = ["s3:GetObject"]
      Resource  = "arn:${local.partition}:s3:::*/*"
      Condition = { StringEquals = { "s3:ExistingObjectTag/servicecatalog:provisioning" = "true" } }
    }]

    builds = [{
      Sid      = "Builds"
      Effect   = "Allow"
      Action   = ["codebuild:StartBuild", "codebuild:BatchGetBuilds"]
      Resource = local.project_arn
    }]

    # A secret's ARN has seven parts; what may stand behind it says which part of the secret is meant.
    secrets = [
      for statement in [
        {
          Sid      = "Secrets"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = sort(distinct([for arn in values(var.secrets) : join(":", slice(split(":", arn), 0, 7)) if strcontains(arn, ":secretsmanager:")]))
        },
        {
          Sid      = "Parameters"
          Effect   = "Allow"
          Action   = ["ssm:GetParameters"]
          Resource = sort(distinct([for arn in values(var.secrets) : arn if strcontains(arn, ":ssm:")]))
        },
      ] : statement if length(statement.Resource) > 0
    ]

    image = flatten([for image in local.ecr_image[*] : [
      {
        Sid      = "Image"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = "arn:${local.partition}:ecr:${image.region}:${image.account}:repository/${image.name}"
      },
      {
        Sid      = "Registry"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"] # has no resource
        Resource = "*"
      },
    ]])

    # As CodeBuild's guide has it for builds in a VPC, the looks being without a resource.
    network = flatten([for vpc in var.vpc[*] : [
      {
        Sid    = "LookAtNetwork"
        Effect = "Allow"
        Action = [
          "ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups",
          "ec2:DescribeSubnets", "ec2:DescribeVpcs",
        ]
        Resource = "*"
      },
      {
        Sid    = "Network"
        Effect = "Allow"
        Action = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"]
        Resource = concat(
          ["${local.ec2}:network-interface/*"],
          [for id in sort(vpc.subnet_ids) : "${local.ec2}:subnet/${id}"],
          [for id in sort(vpc.security_group_ids) : "${local.ec2}:security-group/${id}"],
        )
      },
      {
        Sid      = "LendNetwork"
        Effect   = "Allow"
        Action   = ["ec2:CreateNetworkInterfacePermission"]
        Resource = "${local.ec2}:network-interface/*"
        Condition = {
          StringEquals = { "ec2:AuthorizedService" = "codebuild.amazonaws.com" }
          ArnEquals    = { "ec2:Subnet" = [for id in sort(vpc.subnet_ids) : "${local.ec2}:subnet/${id}"] }
        }
      },
    ]])
  }

  ec2 = "arn:${local.partition}:ec2:${local.region}:${local.account}"
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = each.value.name
  path                 = "/TerraformEngine/"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Effect    = "Allow"
        Principal = { Service = each.value.service }
        Action    = "sts:AssumeRole"
      },
      length(each.value.condition) > 0 ? { Condition = each.value.condition } : {},
    )]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name = "engine"
  role = aws_iam_role.this[each.key].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${local.log_groups[each.key].arn}:*"
      }],
      each.value.statements,
    )
  })
}
