output "secret_arn" {
  description = "ARN of the secret that holds the token."
  value       = aws_secretsmanager_secret.token.arn
}

output "secret_name" {
  description = "Name of the secret that holds the token."
  value       = aws_secretsmanager_secret.token.name
}

output "token_uri" {
  description = "Where the token is, for `CMZON_TOKEN_URI` and `cmzon-secrets.toml`."
  value       = "awssecretsmanager://${aws_secretsmanager_secret.token.arn}"
}

output "replica_uris" {
  description = "Where the copies of the token are, by region."
  value       = { for region, names in local.of_the_replicas : region => "awssecretsmanager://${names.secret_arn}" }
}

output "admin_secret_arn" {
  description = "ARN of the secret that holds the admin token."
  value       = local.admin_secret_arn
}

output "admin_uri" {
  description = "Where the admin token is, for `CMZON_ADMIN_URI` and `cmzon-secrets.toml`."
  value       = "awssecretsmanager://${local.admin_secret_arn}"
}

output "kms_key_arn" {
  description = "ARN of the key."
  value       = local.kms_key_arn
}

output "reader_policy_arn" {
  description = "ARN of the policy that lets a role of yours read the token, and its copies."
  value       = aws_iam_policy.reader.arn
}

output "reader_role_arn" {
  description = "ARN of the role that reads the token; null where `readers` is empty."
  value       = one(aws_iam_role.reader[*].arn)
}

output "rotator_role_arn" {
  description = "ARN of the role that rotates the token; null where nobody may assume it."
  value       = one(aws_iam_role.rotator[*].arn)
}

output "function_name" {
  description = "Name of the function that rotates; null without one."
  value       = one(aws_lambda_function.rotation[*].function_name)
}

output "function_arn" {
  description = "ARN of the function that rotates; null without one."
  value       = one(aws_lambda_function.rotation[*].arn)
}

output "log_group_name" {
  description = "Where the function tells what it did; null without one."
  value       = one(aws_cloudwatch_log_group.function[*].name)
}

output "dead_letter_queue_url" {
  description = "Where events are kept that were given up; null without a function."
  value       = one(aws_sqs_queue.failed[*].url)
}

output "alarm_topic_arn" {
  description = "ARN of the topic made for the alarms; null where there is none."
  value       = one(aws_sns_topic.alarms[*].arn)
}

output "emergency_topic_arn" {
  description = "ARN of the topic whose messages are orders; null without one."
  value       = one(aws_sns_topic.emergency[*].arn)
}

output "egress_ips" {
  description = "Addresses from which the function calls the API, for CMzon's allowlist; empty without `egress`."
  value       = flatten(module.egress[*].ips)
}

output "rotation" {
  description = "The policy in force: what was given, and the defaults."
  value       = var.rotation
}

output "first_steps" {
  description = "What to type after the first apply."
  value = join("\n", concat(
    var.admin_secret == null && var.admin_token_wo_version == null ? [
      "# The token with the scope tokens:manage, from CMzon's dashboard; asked for, never an argument:",
      "cmzon-secrets put 'awssecretsmanager://${local.admin_secret_arn}'",
    ] : [],
    var.create_function ? [
      "# The first rotation now, instead of within the hour:",
      "aws lambda invoke --region ${local.region} --function-name ${local.function_name} /dev/stdout",
    ] : [],
    [
      "# What is right and what is not:",
      "cmzon-secrets doctor --role reader 'awssecretsmanager://${aws_secretsmanager_secret.token.arn}'",
    ],
  ))
}
