# From nothing: a token that is replaced every 30 days, and a role with which ECS reads it.

provider "aws" {
  region = "eu-central-1"
}

module "cmzon" {
  source     = "../.."
  name       = "acme"
  lambda_zip = "dist/cmzon-secrets-lambda.zip" # python -m cmzon_secrets.provisioning.lambda_zip
  readers    = { services = ["ecs-tasks.amazonaws.com"] }
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = module.cmzon.first_steps
}
