# Two accounts. One has a network of its own with a fixed address, a copy of the token in a second
# region, rotation by Secrets Manager beside the schedule, and all that rings. The other shares its key
# and its admin token, and is rotated from Kubernetes, without a function.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.88, < 7"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

variable "admin_token" {
  description = "A token with the scope tokens:manage; wanted for the first apply, and when `admin_token_wo_version` is counted up."
  type        = string
  default     = null
  ephemeral   = true
}

variable "lambda_zip_s3" {
  description = "The zip that `python -m cmzon_secrets.provisioning.lambda_zip` builds, in S3 and signed."
  type = object({
    bucket         = string
    key            = string
    object_version = string
  })
}

variable "code_signing_config_arn" {
  description = "ARN of the configuration that says whose signature the function's code needs."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of every role."
  type        = string
}

variable "replica_key_arn" {
  description = "ARN of a KMS key in eu-west-1, for the copy there."
  type        = string
}

variable "oidc_provider_arn" {
  description = "ARN of the OIDC provider of the EKS cluster."
  type        = string
}

data "aws_caller_identity" "current" {}

# ── what is there already: a key, people to wake up, an application, a rule ─────────────────────

resource "aws_kms_key" "shared" {
  description         = "Secrets of the shops"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.shared_key.json
}

# What the module needs of a key of yours; IAM policies give its roles the rest.
data "aws_iam_policy_document" "shared_key" {
  # checkov:skip=CKV_AWS_109:a key without an administrator can never be changed again
  # checkov:skip=CKV_AWS_111:in a key's policy, the resource is that key
  # checkov:skip=CKV_AWS_356:in a key's policy, the resource is that key
  statement {
    sid       = "IAMPoliciesDecide"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  statement {
    sid       = "TheLogsOfFunctions"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.eu-central-1.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:aws:logs:eu-central-1:${data.aws_caller_identity.current.account_id}:log-group:/aws/lambda/cmzon-*"]
    }
  }

  statement {
    sid       = "AlarmsToTopics"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_sns_topic" "oncall" {
  name              = "oncall"
  kms_master_key_id = aws_kms_key.shared.arn
}

resource "aws_iam_role" "shop" {
  name = "shop"

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

# What watches for leaks says, on the account's event bus, which token it found.
resource "aws_cloudwatch_event_rule" "leaked" {
  name          = "cmzon-acme-leaked"
  event_pattern = jsonencode({ source = ["com.example.leaks"], detail = { account = ["acme"] } })
}

resource "aws_cloudwatch_event_target" "leaked" {
  rule = aws_cloudwatch_event_rule.leaked.name
  arn  = module.acme.function_arn

  input_transformer {
    input_paths    = { id = "$.detail.token_id" }
    input_template = "{\"account\": \"acme\", \"revoke\": <id>}"
  }
}

# ── the two accounts ────────────────────────────────────────────────────────────────────────────

module "acme" {
  source = "../.."

  name                     = "acme"
  secret_name              = "prod/cmzon/acme"
  permissions_boundary_arn = var.permissions_boundary_arn
  tags                     = { team = "shop", environment = "production" }

  kms_key  = { arn = aws_kms_key.shared.arn }
  replicas = { eu-west-1 = { kms_key_arn = var.replica_key_arn } }

  admin_token_wo         = var.admin_token
  admin_token_wo_version = 1

  readers = {
    services = ["ecs-tasks.amazonaws.com"]
    arns     = [aws_iam_role.shop.arn]
    oidc     = { provider_arn = var.oidc_provider_arn, service_accounts = ["shop:web", "shop:worker"] }
  }

  rotation = {
    rotate_every = "14d"
    grace        = "48h"
    expires_in   = "30d"
    scopes       = ["messages:send", "messages:read"]
    allowed_ips  = concat(module.acme.egress_ips, ["203.0.113.0/24"]) # who sends, and the function, which tries each token
  }
  schedule_expression  = "rate(30 minutes)"
  native_rotation_days = 7

  lambda_zip_s3           = var.lambda_zip_s3
  code_signing_config_arn = var.code_signing_config_arn
  reserved_concurrency    = 2
  egress                  = { cidr = "10.90.0.0/26" }

  alarm_topic_arns       = [aws_sns_topic.oncall.arn]
  create_emergency_topic = true
  emergency_rule_arns    = [aws_cloudwatch_event_rule.leaked.arn]
}

module "globex" {
  source = "../.."

  name         = "globex"
  kms_key      = { arn = aws_kms_key.shared.arn }
  admin_secret = { arn = module.acme.admin_secret_arn }

  create_function = false
  readers         = { oidc = { provider_arn = var.oidc_provider_arn, service_accounts = ["shop:web"] } }
  rotators        = { oidc = { provider_arn = var.oidc_provider_arn, service_accounts = ["cmzon:cmzon-secrets"] } }
}

output "addresses" {
  description = "Addresses for the allowlist of the account acme."
  value       = module.acme.egress_ips
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = join("\n", [module.acme.first_steps, module.globex.first_steps])
}
