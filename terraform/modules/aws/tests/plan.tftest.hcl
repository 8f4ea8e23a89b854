# What is planned for which inputs. The provider is the real one, for it writes the policies; it asks
# nobody, and what only AWS could say (ARNs) is said here.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

override_resource {
  target          = aws_secretsmanager_secret.token
  override_during = plan
  values          = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-T0kenT" }
}

override_resource {
  target          = aws_secretsmanager_secret.admin
  override_during = plan
  values          = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-admin-Adm1nT" }
}

override_resource {
  target          = aws_kms_key.this
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
}

override_resource {
  target          = aws_cloudwatch_log_group.function
  override_during = plan
  values          = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/cmzon-acme-rotation" }
}

override_resource {
  target          = aws_sqs_queue.failed
  override_during = plan
  values          = { arn = "arn:aws:sqs:eu-central-1:123456789012:cmzon-acme-failed" }
}

override_resource {
  target          = aws_lambda_function.rotation
  override_during = plan
  values          = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:cmzon-acme-rotation" }
}

override_resource {
  target          = aws_sns_topic.alarms
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-central-1:123456789012:cmzon-acme-alarms" }
}

override_resource {
  target          = aws_sns_topic.emergency
  override_during = plan
  values          = { arn = "arn:aws:sns:eu-central-1:123456789012:cmzon-acme-emergency" }
}

override_module {
  target          = module.egress
  override_during = plan
  outputs         = { subnet_ids = ["subnet-1"], security_group_id = "sg-1", ips = ["203.0.113.7"] }
}

variables {
  name          = "acme"
  lambda_zip_s3 = { bucket = "artifacts", key = "cmzon-secrets-lambda.zip" }
}

run "by_default" {
  command = plan

  assert {
    condition     = aws_secretsmanager_secret.token.name == "cmzon/acme" && aws_secretsmanager_secret.admin[0].name == "cmzon/acme-admin"
    error_message = "The secrets are not called by the account."
  }

  assert {
    condition = alltrue([
      for secret in [aws_secretsmanager_secret.token, aws_secretsmanager_secret.admin[0]] :
      secret.kms_key_id == aws_kms_key.this[0].arn && secret.recovery_window_in_days == 30
    ])
    error_message = "A secret lacks its key, or could be deleted at once."
  }

  assert {
    condition     = length(aws_secretsmanager_secret_version.admin) == 0
    error_message = "Terraform writes a value that nobody gave."
  }

  assert {
    condition     = aws_kms_key.this[0].enable_key_rotation && aws_kms_key.this[0].deletion_window_in_days == 30
    error_message = "The key is not renewed, or its deletion cannot be cancelled."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_kms_key.this[0].policy).Statement :
      statement.Sid => [values(statement.Principal)[0], try(values(statement.Condition)[0], null)]
      } == {
      TheAccountsPoliciesDecide = ["arn:aws:iam::123456789012:root", null]
      TheLogOfTheFunction       = ["logs.eu-central-1.amazonaws.com", { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/cmzon-acme-rotation" }]
      AlarmsToTheTopic          = ["cloudwatch.amazonaws.com", { "aws:SourceAccount" = "123456789012" }]
    }
    error_message = "The key's policy lets others use it, or for other things."
  }

  assert {
    condition     = length(aws_iam_role.reader) == 0 && length(aws_iam_role_policy_attachment.reader) == 0
    error_message = "There is a role to read, and nobody who may assume it."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role.rotator[0].assume_role_policy).Statement : [statement.Action, statement.Principal]] == [["sts:AssumeRole", { Service = "lambda.amazonaws.com" }]]
    error_message = "Others than the function may rotate."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.function[0].statement : statement.sid => one(statement.resources)
      } == {
      WriteItsLog    = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/cmzon-acme-rotation:*"
      KeepWhatFailed = "arn:aws:sqs:eu-central-1:123456789012:cmzon-acme-failed"
    }
    error_message = "The function may do other things than to write its log and to keep what failed."
  }

  assert {
    condition     = aws_lambda_function.rotation[0].kms_key_arn == aws_kms_key.this[0].arn && aws_lambda_function.rotation[0].dead_letter_config[0].target_arn == aws_sqs_queue.failed[0].arn && length(aws_lambda_function.rotation[0].vpc_config) == 0
    error_message = "The function's settings are not encrypted, its failures are lost, or it is in a network."
  }

  assert {
    condition     = aws_cloudwatch_log_group.function[0].retention_in_days == 365 && aws_cloudwatch_log_group.function[0].kms_key_id == aws_kms_key.this[0].arn
    error_message = "The log is not kept for a year, or not encrypted."
  }

  assert {
    condition     = aws_sqs_queue.failed[0].sqs_managed_sse_enabled && aws_sqs_queue.failed[0].message_retention_seconds == 14 * 86400
    error_message = "What failed is not kept, or not encrypted."
  }

  assert {
    condition     = aws_scheduler_schedule.rotation[0].schedule_expression == "rate(1 hour)" && aws_scheduler_schedule.rotation[0].target[0].arn == aws_lambda_function.rotation[0].arn && aws_scheduler_schedule.rotation[0].target[0].dead_letter_config[0].arn == aws_sqs_queue.failed[0].arn
    error_message = "Nothing calls the function every hour, or what it could not deliver is lost."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.schedule[0].statement : one(statement.actions) => one(statement.resources)
      } == {
      "lambda:InvokeFunction" = "arn:aws:lambda:eu-central-1:123456789012:function:cmzon-acme-rotation"
      "sqs:SendMessage"       = "arn:aws:sqs:eu-central-1:123456789012:cmzon-acme-failed"
    }
    error_message = "The schedule may do other things than to invoke the function and to keep what failed."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role.schedule[0].assume_role_policy).Statement : [statement.Principal.Service, statement.Condition]] == [["scheduler.amazonaws.com", { StringEquals = { "aws:SourceAccount" = "123456789012" } }]]
    error_message = "Schedules of other accounts could use the role of ours."
  }

  assert {
    condition = alltrue([
      for alarm in values(aws_cloudwatch_metric_alarm.this) :
      alarm.actions_enabled && alarm.alarm_actions == toset([aws_sns_topic.alarms[0].arn]) && alarm.ok_actions == alarm.alarm_actions
    ])
    error_message = "An alarm tells nobody."
  }

  assert {
    condition     = aws_sns_topic.alarms[0].kms_master_key_id == aws_kms_key.this[0].arn && length(aws_sns_topic_subscription.email) == 0
    error_message = "The alarms' topic is not encrypted, or somebody is subscribed."
  }

  assert {
    condition     = length(aws_sns_topic.emergency) + length(aws_lambda_permission.emergency) + length(aws_lambda_permission.emergency_rule) + length(aws_lambda_permission.native_rotation) + length(aws_secretsmanager_secret_rotation.native) + length(module.egress) == 0
    error_message = "There is something that nobody asked for."
  }

  assert {
    condition     = output.rotation.rotate_every == "30d" && output.rotation.grace == "24h"
    error_message = "Nobody is told which policy is in force."
  }

  assert {
    condition     = strcontains(output.first_steps, "cmzon-secrets put 'awssecretsmanager://${aws_secretsmanager_secret.admin[0].arn}'") && strcontains(output.first_steps, "--function-name cmzon-acme-rotation")
    error_message = "The first steps lack the admin token, or the first rotation."
  }
}

run "null_is_the_default" {
  command = plan

  variables {
    tags                    = null
    recovery_window_in_days = null
    replicas                = null
    readers                 = null
    rotators                = null
    rotation                = null
    schedule_expression     = null
    create_function         = null
    memory_size             = null
    environment             = null
    create_alarms           = null
    alarm_topic_arns        = null
    alarm_emails            = null
    silent_after_hours      = null
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) == 4 && aws_lambda_function.rotation[0].memory_size == 512 && aws_secretsmanager_secret.token.recovery_window_in_days == 30
    error_message = "An input of null is not as one that is left out."
  }
}

run "everything_at_once" {
  command = plan

  variables {
    secret_name              = "prod/cmzon/acme"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
    tags                     = { team = "shop" }
    replicas                 = { eu-west-1 = {}, us-east-1 = { kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/1" } }
    admin_token_wo           = "no-token"
    admin_token_wo_version   = 1
    readers = {
      services = ["ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com"]
      arns     = ["arn:aws:iam::123456789012:role/shop"]
      oidc     = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1", service_accounts = ["shop:web", "shop:worker"] }
    }
    rotators             = { arns = ["arn:aws:iam::123456789012:role/oncall"] }
    rotation             = { grace = "48h", allowed_ips = ["203.0.113.7", "198.51.100.0/24"] }
    native_rotation_days = 14
    environment          = { CMZON_CA = "ca.pem" }
    egress               = {}
    alarm_emails         = ["oncall@example.com", "shop@example.com"]

    create_emergency_topic = true
    emergency_rule_arns    = ["arn:aws:events:eu-central-1:123456789012:rule/leaked", "arn:aws:events:eu-central-1:123456789012:rule/bus/other"]
  }

  assert {
    condition     = aws_secretsmanager_secret.token.name == "prod/cmzon/acme" && aws_secretsmanager_secret.admin[0].name == "prod/cmzon/acme-admin" && length(aws_secretsmanager_secret.token.replica) == 2
    error_message = "The secret is not called as asked, or lacks a copy."
  }

  assert {
    condition = {
      for statement in jsondecode(aws_iam_policy.reader.policy).Statement : statement.Sid => [statement.Resource, try(statement.Condition.StringLike["kms:EncryptionContext:SecretARN"], null)]
      } == {
      ReadTheToken          = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-T0kenT", null]
      DecryptIt             = ["arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-T0kenT"]
      ReadTheTokenIneuwest1 = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:cmzon/acme-T0kenT", null]
      DecryptItIneuwest1    = ["arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cmzon/acme-T0kenT"]
      ReadTheTokenInuseast1 = ["arn:aws:secretsmanager:us-east-1:123456789012:secret:cmzon/acme-T0kenT", null]
      DecryptItInuseast1    = ["arn:aws:kms:us-east-1:123456789012:key/1", "arn:aws:secretsmanager:us-east-1:123456789012:secret:cmzon/acme-T0kenT"]
    }
    error_message = "A copy of the token cannot be read, or something else can."
  }

  assert {
    condition     = output.replica_uris["eu-west-1"] == "awssecretsmanager://arn:aws:secretsmanager:eu-west-1:123456789012:secret:cmzon/acme-T0kenT"
    error_message = "Nobody is told where the copies are."
  }

  assert {
    condition     = aws_secretsmanager_secret_version.admin[0].secret_string_wo_version == 1 && !strcontains(output.first_steps, "cmzon-secrets put")
    error_message = "The admin token is not sent, or is asked for although it is there."
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_role.reader[0].assume_role_policy).Statement : [statement.Action, statement.Principal]
      ] == [
      [["sts:TagSession", "sts:AssumeRole"], { Service = ["pods.eks.amazonaws.com", "ecs-tasks.amazonaws.com"] }],
      ["sts:AssumeRole", { AWS = "arn:aws:iam::123456789012:role/shop" }],
      ["sts:AssumeRoleWithWebIdentity", { Federated = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1" }],
    ]
    error_message = "Others may read than those that were named."
  }

  assert {
    condition = jsondecode(aws_iam_role.reader[0].assume_role_policy).Statement[2].Condition == { StringEquals = {
      "oidc.eks.eu-central-1.amazonaws.com/id/1:aud" = "sts.amazonaws.com"
      "oidc.eks.eu-central-1.amazonaws.com/id/1:sub" = ["system:serviceaccount:shop:web", "system:serviceaccount:shop:worker"]
    } }
    error_message = "Other pods of the cluster may read, or a token that was made for something else opens the role."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role.rotator[0].assume_role_policy).Statement : values(statement.Principal)[0]] == ["lambda.amazonaws.com", "arn:aws:iam::123456789012:role/oncall"]
    error_message = "Others may rotate than the function and those that were named."
  }

  assert {
    condition     = alltrue([for role in concat(aws_iam_role.reader, aws_iam_role.rotator, aws_iam_role.schedule) : role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"])
    error_message = "A role is without its boundary."
  }

  assert {
    condition = alltrue([
      for tags in concat(
        [aws_secretsmanager_secret.token.tags, aws_iam_policy.reader.tags, aws_kms_key.this[0].tags, aws_secretsmanager_secret.admin[0].tags],
        [aws_lambda_function.rotation[0].tags, aws_cloudwatch_log_group.function[0].tags, aws_sqs_queue.failed[0].tags, aws_sns_topic.emergency[0].tags],
        aws_iam_role.reader[*].tags, aws_iam_role.rotator[*].tags, aws_iam_role.schedule[*].tags, aws_sns_topic.alarms[*].tags,
        values(aws_cloudwatch_metric_alarm.this)[*].tags,
      ) : tags == tomap({ team = "shop" })
    ])
    error_message = "Something that can have tags has none."
  }

  assert {
    condition     = aws_lambda_function.rotation[0].vpc_config[0].subnet_ids == toset(["subnet-1"]) && aws_lambda_function.rotation[0].vpc_config[0].security_group_ids == toset(["sg-1"]) && output.egress_ips == ["203.0.113.7"]
    error_message = "The function is not in the network that was made for it."
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.function[0].statement : [one(statement.condition).variable, one(one(statement.condition).values)]
      if statement.effect == "Deny" && contains(statement.actions, "ec2:CreateNetworkInterface")
    ] == [["lambda:SourceFunctionArn", "arn:aws:lambda:eu-central-1:123456789012:function:cmzon-acme-rotation"]]
    error_message = "What runs in the function may change the network."
  }

  assert {
    condition     = aws_secretsmanager_secret_rotation.native[0].rotation_rules[0].automatically_after_days == 14 && !aws_secretsmanager_secret_rotation.native[0].rotate_immediately
    error_message = "Secrets Manager does not begin rotations as asked, or begins one before there is a token."
  }

  assert {
    condition = {
      for permission in concat(aws_lambda_permission.native_rotation, aws_lambda_permission.emergency, aws_lambda_permission.emergency_rule) : permission.statement_id => [permission.principal, permission.source_arn]
      } == {
      SecretsManager = ["secretsmanager.amazonaws.com", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cmzon/acme-T0kenT"]
      Emergency      = ["sns.amazonaws.com", "arn:aws:sns:eu-central-1:123456789012:cmzon-acme-emergency"]
      EmergencyRule0 = ["events.amazonaws.com", "arn:aws:events:eu-central-1:123456789012:rule/leaked"]
      EmergencyRule1 = ["events.amazonaws.com", "arn:aws:events:eu-central-1:123456789012:rule/bus/other"]
    }
    error_message = "Others may invoke the function than those that were named."
  }

  assert {
    condition     = toset([for subscription in values(aws_sns_topic_subscription.email) : subscription.endpoint]) == toset(["oncall@example.com", "shop@example.com"])
    error_message = "Not everybody who was named is told."
  }
}

run "without_a_function" {
  command = plan

  variables {
    create_function        = false
    lambda_zip_s3          = null
    rotators               = { arns = ["arn:aws:iam::123456789012:role/oncall"] }
    egress                 = {}
    alarm_emails           = ["oncall@example.com"]
    create_emergency_topic = true
    emergency_rule_arns    = ["arn:aws:events:eu-central-1:123456789012:rule/leaked"]
  }

  assert {
    condition = length(concat(
      aws_lambda_function.rotation, aws_cloudwatch_log_group.function, aws_sqs_queue.failed, aws_scheduler_schedule.rotation, aws_iam_role.schedule,
      aws_iam_role_policy.function, aws_iam_role_policy.schedule, aws_sns_topic.alarms, aws_sns_topic.emergency, aws_lambda_permission.emergency_rule,
      aws_cloudwatch_log_metric_filter.attention, values(aws_cloudwatch_metric_alarm.this), aws_cloudwatch_dashboard.rotation,
    )) + length(module.egress) + length(aws_sns_topic_subscription.email) == 0
    error_message = "There is something of a function that is not there."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role.rotator[0].assume_role_policy).Statement : values(statement.Principal)[0]] == ["arn:aws:iam::123456789012:role/oncall"]
    error_message = "Others may rotate than those that were named."
  }

  assert {
    condition     = output.function_arn == null && output.alarm_topic_arn == null && output.egress_ips == [] && !strcontains(output.first_steps, "lambda invoke")
    error_message = "An output tells of what is not there."
  }
}

run "places_of_yours" {
  command = plan

  variables {
    kms_key          = { arn = "arn:aws:kms:eu-central-1:123456789012:key/yours" }
    admin_secret     = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-YoursT", kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/admins" }
    alarm_topic_arns = ["arn:aws:sns:eu-central-1:123456789012:one", "arn:aws:sns:eu-central-1:123456789012:two"]
    vpc              = { subnet_ids = ["subnet-2", "subnet-3"], security_group_ids = ["sg-2"] }
    lambda_zip       = "versions.tf" # any file
    lambda_zip_s3    = null
  }

  assert {
    condition     = length(aws_kms_key.this) + length(aws_kms_alias.this) + length(aws_secretsmanager_secret.admin) + length(aws_sns_topic.alarms) + length(module.egress) == 0
    error_message = "A place is made that was given."
  }

  assert {
    condition = alltrue([
      for key in [aws_secretsmanager_secret.token.kms_key_id, aws_lambda_function.rotation[0].kms_key_arn, aws_cloudwatch_log_group.function[0].kms_key_id] :
      key == "arn:aws:kms:eu-central-1:123456789012:key/yours"
    ])
    error_message = "Not everything is encrypted with the key that was given."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.admin[0].policy).Statement : statement.Resource] == ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin-YoursT", "arn:aws:kms:eu-central-1:123456789012:key/admins"]
    error_message = "The admin token cannot be read, or another secret can."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this["attention"].alarm_actions) == 2
    error_message = "Not every topic that was given is told."
  }

  assert {
    condition     = aws_lambda_function.rotation[0].vpc_config[0].subnet_ids == toset(["subnet-2", "subnet-3"])
    error_message = "The function is not in the network that was given."
  }

  assert {
    condition     = aws_lambda_function.rotation[0].source_code_hash == filebase64sha256("versions.tf")
    error_message = "A new zip would be no change."
  }
}

run "without_alarms" {
  command = plan

  variables {
    create_alarms    = false
    create_dashboard = false
    alarm_emails     = ["oncall@example.com"]
  }

  assert {
    condition     = length(concat(aws_sns_topic.alarms, aws_cloudwatch_log_metric_filter.attention, values(aws_cloudwatch_metric_alarm.this), aws_cloudwatch_dashboard.rotation)) + length(aws_sns_topic_subscription.email) == 0
    error_message = "There is an alarm that was not wanted."
  }
}

run "what_is_made_in_the_same_apply" {
  command = plan

  module {
    source = "./tests/unknown"
  }

  override_data {
    target = module.cmzon.data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }

  override_data {
    target = module.zip.data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }
}

run "a_policy_that_contradicts_itself" {
  command = plan

  variables {
    rotation = { grace = "4m" } # readers may use a token for 5 m and 60 s more
  }

  expect_failures = [aws_lambda_function.rotation]
}
