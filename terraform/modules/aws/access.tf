# Two roles: one reads the token, one rotates it. Their policies are those that `cmzon-secrets doctor`
# prints and checks (policies/).

locals {
  of_the_token = { secret_arn = aws_secretsmanager_secret.token.arn, kms_key_arn = local.kms_key_arn }
  of_the_admin = { secret_arn = local.admin_secret_arn, kms_key_arn = local.admin_kms_key_arn }

  reader_policy = "${path.module}/policies/awssecretsmanager.reader.json"
  of_the_replicas = { # AWS's own key of a region needs no permission, and then ours is named in vain
    for region, replica in var.replicas : region => {
      secret_arn  = replace(aws_secretsmanager_secret.token.arn, ":${local.region}:", ":${region}:")
      kms_key_arn = coalesce(replica.kms_key_arn, local.kms_key_arn)
    }
  }
  reader_statements = concat(jsondecode(templatefile(local.reader_policy, local.of_the_token)).Statement, flatten([
    for region, names in local.of_the_replicas : [
      for statement in jsondecode(templatefile(local.reader_policy, names)).Statement :
      merge(statement, { Sid = "${statement.Sid}In${replace(region, "-", "")}" })
    ]
  ]))

  of_the_network = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]

  create_reader_role  = length(var.readers.services) + length(var.readers.arns) > 0 || var.readers.oidc != null
  create_rotator_role = var.create_function || length(var.rotators.services) + length(var.rotators.arns) > 0 || var.rotators.oidc != null

  trusted = {
    reader  = var.readers
    rotator = merge(var.rotators, { services = concat(var.rotators.services, var.create_function ? ["lambda.amazonaws.com"] : []) })
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.trusted

  dynamic "statement" {
    for_each = length(each.value.services) > 0 ? [each.value.services] : []

    content {
      # Pods of EKS that assume a role without an OIDC provider tag their session.
      actions = contains(statement.value, "pods.eks.amazonaws.com") ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]

      principals {
        type        = "Service"
        identifiers = statement.value
      }
    }
  }

  dynamic "statement" {
    for_each = length(each.value.arns) > 0 ? [each.value.arns] : []

    content {
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }

  dynamic "statement" {
    for_each = each.value.oidc == null ? [] : [each.value.oidc]

    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value.provider_arn]
      }

      condition {
        test     = "StringEquals"
        variable = "${split(":oidc-provider/", statement.value.provider_arn)[1]}:sub"
        values   = [for name in statement.value.service_accounts : "system:serviceaccount:${name}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${split(":oidc-provider/", statement.value.provider_arn)[1]}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

# ── readers ─────────────────────────────────────────────────────────────────────────────────────

resource "aws_iam_policy" "reader" {
  name        = "${local.prefix}-reader"
  description = "Reads the CMzon token of ${var.name}."
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.reader_statements })
  tags        = var.tags
}

resource "aws_iam_role" "reader" {
  count = local.create_reader_role ? 1 : 0

  name                 = "${local.prefix}-reader"
  description          = "Reads the CMzon token of ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.trust["reader"].json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy_attachment" "reader" {
  count = local.create_reader_role ? 1 : 0

  role       = aws_iam_role.reader[0].name
  policy_arn = aws_iam_policy.reader.arn
}

# ── the rotator ─────────────────────────────────────────────────────────────────────────────────

resource "aws_iam_role" "rotator" {
  count = local.create_rotator_role ? 1 : 0

  name                 = "${local.prefix}-rotator"
  description          = "Rotates the CMzon token of ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.trust["rotator"].json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "rotate" {
  count = local.create_rotator_role ? 1 : 0

  name   = "rotate-the-token"
  role   = aws_iam_role.rotator[0].id
  policy = templatefile("${path.module}/policies/awssecretsmanager.rotator.json", local.of_the_token)
}

resource "aws_iam_role_policy" "admin" {
  count = local.create_rotator_role ? 1 : 0

  name   = "read-the-admin-token"
  role   = aws_iam_role.rotator[0].id
  policy = templatefile(local.reader_policy, local.of_the_admin)
}

resource "aws_iam_role_policy" "function" {
  count = var.create_function ? 1 : 0

  name   = "run-as-a-function"
  role   = aws_iam_role.rotator[0].id
  policy = data.aws_iam_policy_document.function[0].json
}

data "aws_iam_policy_document" "function" {
  # checkov:skip=CKV_AWS_111:EC2 knows no resource for the network interfaces of a function in a VPC
  # checkov:skip=CKV_AWS_356:EC2 knows no resource for the network interfaces of a function in a VPC
  count = var.create_function ? 1 : 0

  statement {
    sid       = "WriteItsLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[0].arn}:*"]
  }

  statement {
    sid       = "KeepWhatFailed"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed[0].arn]
  }

  dynamic "statement" {
    for_each = local.vpc == null ? [] : [local.vpc]

    content {
      sid       = "LiveInTheNetwork" # what AWS's own AWSLambdaVPCAccessExecutionRole grants, without the log
      actions   = local.of_the_network
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = local.vpc == null ? [] : [local.vpc]

    content {
      sid       = "NotByItsCode" # Lambda itself needs them, on its behalf; what runs in it never does
      effect    = "Deny"
      actions   = local.of_the_network
      resources = ["*"]

      condition {
        test     = "ArnEquals"
        variable = "lambda:SourceFunctionArn"
        values   = ["arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${local.function_name}"]
      }
    }
  }
}
