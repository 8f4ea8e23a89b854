# The function that rotates, what calls it, and where it tells what it did.

locals {
  function_name  = "${local.prefix}-rotation"
  log_group_name = "/aws/lambda/${local.function_name}"

  vpc = length(module.egress) == 0 ? var.vpc : {
    subnet_ids         = toset(module.egress[0].subnet_ids)
    security_group_ids = toset([module.egress[0].security_group_id])
  }

  settings = {
    CMZON_TOKEN_URI     = "awssecretsmanager://${aws_secretsmanager_secret.token.arn}"
    CMZON_ADMIN_URI     = "awssecretsmanager://${local.admin_secret_arn}"
    CMZON_BASE_URL      = var.base_url
    CMZON_ROTATION_NAME = var.name
  }
  policy = {
    for field, value in var.rotation :
    "CMZON_ROTATION_${upper(field)}" => try(join(",", value), value)
  }

  unit_seconds = { s = 1, m = 60, h = 3600, d = 86400 }
  seconds = {
    for field in local.durations :
    field => var.rotation[field] == null ? null : tonumber(trim(var.rotation[field], "smhd")) * local.unit_seconds[substr(var.rotation[field], -1, 1)]
  }
  durations    = ["rotate_every", "grace", "expires_in", "renew_before", "reader_ttl", "request_deadline", "revoke_limit"]
  renew_before = local.seconds.expires_in == null ? null : coalesce(local.seconds.renew_before, max(local.seconds.expires_in / 4, local.seconds.grace))
}

resource "aws_cloudwatch_log_group" "function" {
  count = var.create_function ? 1 : 0

  name              = local.log_group_name
  retention_in_days = var.log_retention_in_days
  kms_key_id        = local.kms_key_arn
  tags              = var.tags
}

resource "aws_lambda_function" "rotation" {
  # checkov:skip=CKV_AWS_115:two runs at once are wasteful, never wrong, and a new account has no concurrency to reserve; see reserved_concurrency
  # checkov:skip=CKV_AWS_117:it calls public addresses alone; see vpc and egress
  # checkov:skip=CKV_AWS_272:who signs code says with what: see code_signing_config_arn
  count = var.create_function ? 1 : 0

  function_name = local.function_name
  description   = "Rotates the CMzon token of ${var.name}."
  role          = aws_iam_role.rotator[0].arn
  handler       = "cmzon_secrets.runtimes.aws_lambda.handler"
  runtime       = var.runtime
  architectures = [var.architecture]
  memory_size   = var.memory_size
  timeout       = var.timeout
  kms_key_arn   = local.kms_key_arn
  tags          = var.tags

  filename          = var.lambda_zip
  source_code_hash  = var.lambda_zip == null ? null : filebase64sha256(var.lambda_zip)
  s3_bucket         = try(var.lambda_zip_s3.bucket, null)
  s3_key            = try(var.lambda_zip_s3.key, null)
  s3_object_version = try(var.lambda_zip_s3.object_version, null)

  code_signing_config_arn        = var.code_signing_config_arn
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = merge({ for name, value in merge(local.settings, local.policy) : name => value if value != null && value != "" }, var.environment)
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.failed[0].arn
  }

  tracing_config {
    mode = "PassThrough"
  }

  dynamic "vpc_config" {
    for_each = local.vpc == null ? [] : [local.vpc]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [ # or its first run fails, or makes a log without retention and key
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.admin,
    aws_iam_role_policy.function,
    aws_iam_role_policy.rotate,
    aws_secretsmanager_secret_version.admin,
  ]

  lifecycle { # what the function would refuse at its first run
    precondition {
      condition     = local.seconds.grace >= local.seconds.reader_ttl + local.seconds.request_deadline
      error_message = "rotation: grace is shorter than reader_ttl and request_deadline together, and a token would be revoked while readers use it. Raise grace."
    }

    precondition {
      condition     = local.seconds.revoke_limit >= local.seconds.grace
      error_message = "rotation: revoke_limit is shorter than grace, and both count from the promotion. Raise revoke_limit, or shorten grace."
    }

    precondition {
      condition     = local.renew_before == null ? true : local.renew_before >= local.seconds.grace
      error_message = "rotation: renew_before is shorter than grace, and the old token would expire within its grace. Raise renew_before."
    }

    precondition {
      condition     = local.renew_before == null ? true : local.seconds.expires_in > local.renew_before + local.seconds.grace
      error_message = "rotation: expires_in is not longer than renew_before (a quarter of expires_in, at least grace) and grace together, and a new token would be due before the last one is retired. Raise expires_in, or shorten grace."
    }

    precondition {
      condition     = var.native_rotation_days == null ? true : var.native_rotation_days * 86400 > local.seconds.grace && var.native_rotation_days * 86400 < local.seconds.rotate_every
      error_message = "native_rotation_days: it lies between rotation.grace, within which nothing is replaced, and rotation.rotate_every, at which the schedule rotates first. Lower it, or raise rotate_every."
    }
  }
}

module "egress" {
  source = "./modules/egress"
  count  = var.create_function && var.egress != null ? 1 : 0

  name              = local.prefix
  cidr              = var.egress.cidr
  availability_zone = var.egress.availability_zone
  tags              = var.tags
}

# ── what could not be done ──────────────────────────────────────────────────────────────────────

resource "aws_sqs_queue" "failed" {
  count = var.create_function ? 1 : 0

  name                      = "${local.prefix}-failed"
  sqs_managed_sse_enabled   = true # events hold no secret, so no key has to be shared with what sends them
  message_retention_seconds = 1209600
  tags                      = var.tags

  # AWS gives a queue, a topic, an alarm or a dashboard of a name that is taken to whoever makes it again, and
  # refuses the name of a role or a secret. So these come first: an apply under a taken name ends there, and
  # has nothing of the other's in its state, which its destroy would delete.
  depends_on = [aws_iam_role.rotator, aws_secretsmanager_secret.token]
}

# ── the schedule: always, for nothing else revokes what outlived its grace ──────────────────────

resource "aws_scheduler_schedule" "rotation" {
  # checkov:skip=CKV_AWS_297:all it holds is the function's ARN and {}
  count = var.create_function ? 1 : 0

  name                = local.function_name
  description         = "Rotates the CMzon token of ${var.name} where it is due."
  schedule_expression = var.schedule_expression

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.rotation[0].arn
    role_arn = aws_iam_role.schedule[0].arn
    input    = "{}"

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 10
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed[0].arn
    }
  }
}

resource "aws_iam_role" "schedule" {
  count = var.create_function ? 1 : 0

  name                 = "${local.prefix}-schedule"
  description          = "Invokes the function that rotates the CMzon token of ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.schedule_trust.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

data "aws_iam_policy_document" "schedule_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  count = var.create_function ? 1 : 0

  name   = "invoke-the-function"
  role   = aws_iam_role.schedule[0].id
  policy = data.aws_iam_policy_document.schedule[0].json
}

data "aws_iam_policy_document" "schedule" {
  count = var.create_function ? 1 : 0

  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.rotation[0].arn]
  }

  statement {
    sid       = "KeepWhatFailed"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed[0].arn]
  }
}

# ── Secrets Manager's own rotation, where wanted ────────────────────────────────────────────────

resource "aws_lambda_permission" "native_rotation" {
  count = var.native_rotation_days == null ? 0 : 1

  statement_id   = "SecretsManager"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.rotation[0].function_name
  principal      = "secretsmanager.amazonaws.com"
  source_account = local.account_id
  source_arn     = aws_secretsmanager_secret.token.arn
}

resource "aws_secretsmanager_secret_rotation" "native" {
  # checkov:skip=CKV_AWS_304:an input says how often, and without it there is none
  count = var.native_rotation_days == null ? 0 : 1

  secret_id           = aws_secretsmanager_secret.token.id
  rotation_lambda_arn = aws_lambda_function.rotation[0].arn
  rotate_immediately  = false # there may be no token yet, and the schedule makes the first

  rotation_rules {
    automatically_after_days = var.native_rotation_days
  }

  depends_on = [aws_lambda_permission.native_rotation]
}

# ── emergencies ─────────────────────────────────────────────────────────────────────────────────

resource "aws_sns_topic" "emergency" {
  count = var.create_function && var.create_emergency_topic ? 1 : 0

  name              = "${local.prefix}-emergency"
  kms_master_key_id = local.kms_key_arn
  tags              = var.tags

  depends_on = [aws_iam_role.rotator, aws_secretsmanager_secret.token] # or it would be another's: see the queue of what failed
}

resource "aws_sns_topic_subscription" "emergency" {
  count = var.create_function && var.create_emergency_topic ? 1 : 0

  topic_arn = aws_sns_topic.emergency[0].arn
  protocol  = "lambda"
  endpoint  = aws_lambda_function.rotation[0].arn

  depends_on = [aws_lambda_permission.emergency]
}

resource "aws_lambda_permission" "emergency" {
  count = var.create_function && var.create_emergency_topic ? 1 : 0

  statement_id  = "Emergency"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.rotation[0].function_name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.emergency[0].arn
}

# Rules come straight to the function: what EventBridge publishes by SNS carries nothing by which the
# topic's policy could tell one rule from another, or from one of another account.
resource "aws_lambda_permission" "emergency_rule" {
  count = var.create_function ? length(var.emergency_rule_arns) : 0

  statement_id  = "EmergencyRule${count.index}"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.rotation[0].function_name
  principal     = "events.amazonaws.com"
  source_arn    = var.emergency_rule_arns[count.index]
}
