# What is refused before anything is made. In a run, each input named under `expect_failures` has to be
# refused; one with several rules breaks the next of them in the next run. A rule that looks at another
# input too is asked only where that one is right.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  name          = "acme"
  lambda_zip_s3 = { bucket = "artifacts", key = "cmzon-secrets-lambda.zip" }
}

run "refused_first" {
  command = plan

  variables {
    name                        = "Acme"
    tags                        = { cmzon-secrets-promoted-at = "now" }
    secret_name                 = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x"
    recovery_window_in_days     = 3
    replicas                    = { Ireland = {} }
    kms_key                     = { arn = "alias/mine" }
    kms_deletion_window_in_days = 3
    admin_secret                = { arn = "cmzon/admin" }
    readers                     = { services = ["ecs-tasks"] }
    rotators                    = { services = ["ecs-tasks"] }
    rotation                    = { grace = "a day" }
    base_url                    = "http://api.cmzon.com"
    schedule_expression         = "hourly"
    native_rotation_days        = 0
    lambda_zip                  = "no/such/file.zip"
    code_signing_config_arn     = "arn:aws:lambda:eu-central-1:123456789012:code-signing-config:csc-1"
    lambda_zip_s3               = null
    runtime                     = "python3.9"
    architecture                = "arm"
    memory_size                 = 128
    timeout                     = 3
    reserved_concurrency        = 0
    environment                 = { LOG_LEVEL = "DEBUG" }
    egress                      = { cidr = "10.0.0.0/28" }
    alarm_topic_arns            = ["oncall"]
    log_retention_in_days       = 100
    emergency_rule_arns         = ["arn:aws:events:eu-central-1:123456789012:rule/*"]
  }

  expect_failures = [
    var.name, var.tags, var.secret_name, var.recovery_window_in_days, var.replicas, var.kms_key, var.kms_deletion_window_in_days,
    var.admin_secret, var.readers, var.rotators, var.rotation, var.base_url, var.schedule_expression,
    var.native_rotation_days, var.lambda_zip, var.code_signing_config_arn, var.runtime, var.architecture, var.memory_size, var.timeout,
    var.reserved_concurrency, var.environment, var.egress, var.alarm_topic_arns,
    var.log_retention_in_days, var.emergency_rule_arns,
  ]
}

run "refused_second" {
  command = plan

  variables {
    secret_name         = "cmzon/acme-secret"
    admin_secret        = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-AbCdEf", kms_key_arn = "alias/mine" }
    readers             = { arns = ["*"] }
    rotators            = { arns = ["arn:aws:iam::123456789012:role/*"] }
    rotation            = { scopes = [] }
    schedule_expression = "rate(6 hours)"
    lambda_zip          = "versions.tf"
    environment         = { CMZON_API_TOKEN = "" }
    vpc                 = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    egress              = {}
    alarm_topic_arns    = ["arn:aws:sns:eu-central-1:123456789012:oncall"]
    alarm_emails        = ["oncall@example.com"]
  }

  expect_failures = [
    var.secret_name, var.admin_secret, var.readers, var.rotators, var.rotation, var.lambda_zip, var.environment, var.vpc, var.alarm_emails,
    var.silent_after_hours,
  ]
}

run "refused_third" {
  command = plan

  variables {
    readers                = { oidc = { provider_arn = "https://oidc.eks.eu-central-1.amazonaws.com/id/1", service_accounts = ["shop:web"] } }
    rotators               = { oidc = { provider_arn = "https://oidc.eks.eu-central-1.amazonaws.com/id/1", service_accounts = ["shop:web"] } }
    rotation               = { allowed_ips = ["203.0.113"] }
    environment            = { CMZON_PROXY = "cmz_live_x" }
    create_function        = false
    native_rotation_days   = 7
    vpc                    = { subnet_ids = [], security_group_ids = [] }
    alarm_emails           = ["oncall"]
    silent_after_hours     = 200
    admin_secret           = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-AbCdEf" }
    admin_token_wo_version = 1
  }

  expect_failures = [
    var.readers, var.rotators, var.rotation, var.environment, var.native_rotation_days, var.vpc, var.alarm_emails, var.silent_after_hours,
    var.admin_token_wo_version,
  ]
}

run "refused_fourth" {
  command = plan

  variables {
    readers  = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com", service_accounts = ["shop:*"] } }
    rotators = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com", service_accounts = [] } }
  }

  expect_failures = [var.readers, var.rotators]
}

run "a_policy_that_contradicts_itself" {
  command = plan

  variables {
    rotation = { grace = "4m" } # readers may use a token for 5 m and 60 s more
  }

  expect_failures = [aws_lambda_function.rotation]
}
