# One CMzon token in Secrets Manager and what rotates it. Terraform makes the places and the rights;
# no value passes through it, but an admin token on its way to Secrets Manager where one is given.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id # of all providers allowed, the name

  prefix      = "cmzon-${var.name}"
  secret_name = coalesce(var.secret_name, "cmzon/${var.name}")

  kms_key_arn = var.kms_key == null ? aws_kms_key.this[0].arn : var.kms_key.arn

  admin_secret_arn  = var.admin_secret == null ? aws_secretsmanager_secret.admin[0].arn : var.admin_secret.arn
  admin_kms_key_arn = try(coalesce(var.admin_secret.kms_key_arn), local.kms_key_arn)
}

resource "aws_secretsmanager_secret" "token" {
  # checkov:skip=CKV2_AWS_57:the schedule rotates it; Secrets Manager's own rotation has no step that revokes the old token, and is an option beside it
  name                    = local.secret_name
  description             = "CMzon API token of ${var.name}. Written by cmzon-secrets alone."
  kms_key_id              = local.kms_key_arn
  recovery_window_in_days = var.recovery_window_in_days
  tags                    = var.tags

  dynamic "replica" {
    for_each = var.replicas

    content {
      region     = replica.key
      kms_key_id = replica.value.kms_key_arn
    }
  }

  lifecycle {
    ignore_changes = [
      tags["cmzon-secrets-promoted-at"],     # rotation notes there when the token became current,
      tags_all["cmzon-secrets-promoted-at"], # and a grace is counted from it
    ]
  }
}

resource "aws_secretsmanager_secret" "admin" {
  # checkov:skip=CKV2_AWS_57:the token that issues tokens is replaced by people, or is an account of its own
  count = var.admin_secret == null ? 1 : 0

  name                    = "${local.secret_name}-admin"
  description             = "CMzon token with the scope tokens:manage, with which tokens of ${var.name} are issued and revoked."
  kms_key_id              = local.kms_key_arn
  recovery_window_in_days = var.recovery_window_in_days
  tags                    = var.tags

  lifecycle {
    ignore_changes = [ # `put` writes it too, and so does a rotation of the admin token itself
      tags["cmzon-secrets-promoted-at"],
      tags_all["cmzon-secrets-promoted-at"],
    ]
  }
}

resource "aws_secretsmanager_secret_version" "admin" {
  count = var.admin_token_wo_version == null ? 0 : 1

  secret_id                = aws_secretsmanager_secret.admin[0].id
  secret_string_wo         = var.admin_token_wo == null ? "" : var.admin_token_wo # not given: only needed to be written, and AWS stores no empty one
  secret_string_wo_version = var.admin_token_wo_version
}
