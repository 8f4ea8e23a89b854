# A token that a function rotates, and ECS puts into the environment of a container when a task starts.

module "cmzon" {
  source = "../../modules/aws"

  name         = "acme"
  lambda_zip   = "dist/cmzon-secrets-lambda.zip"
  alarm_emails = ["oncall@example.com"]
  rotation     = { reader_ttl = "7d", grace = "8d", revoke_limit = "21d" } # a task keeps what it began with
}

resource "aws_iam_role_policy_attachment" "ecs_reads_the_token" {
  role       = aws_iam_role.execution.name
  policy_arn = module.cmzon.reader_policy_arn
}
