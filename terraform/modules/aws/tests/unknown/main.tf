# A root in which all that could come from elsewhere is made in the same apply, so that nothing of it is
# known at the plan.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.88, < 7"
    }
  }
}

resource "terraform_data" "elsewhere" {}

module "cmzon" {
  source = "../.."
  name   = "acme"

  permissions_boundary_arn = terraform_data.elsewhere.id
  replicas                 = { eu-west-1 = { kms_key_arn = terraform_data.elsewhere.id } }

  kms_key      = { arn = terraform_data.elsewhere.id }
  admin_secret = { arn = terraform_data.elsewhere.id, kms_key_arn = terraform_data.elsewhere.id }

  readers = {
    arns = [terraform_data.elsewhere.id, terraform_data.elsewhere.output]
    oidc = { provider_arn = terraform_data.elsewhere.id, service_accounts = ["shop:web"] }
  }
  rotators = { arns = [terraform_data.elsewhere.id, terraform_data.elsewhere.output] }

  rotation = { allowed_ips = [terraform_data.elsewhere.id] }

  lambda_zip_s3           = { bucket = terraform_data.elsewhere.id, key = terraform_data.elsewhere.id, object_version = terraform_data.elsewhere.id }
  code_signing_config_arn = terraform_data.elsewhere.id
  environment             = { CMZON_CA = terraform_data.elsewhere.id }
  vpc                     = { subnet_ids = [terraform_data.elsewhere.id], security_group_ids = [terraform_data.elsewhere.id] }

  alarm_topic_arns    = [terraform_data.elsewhere.id]
  emergency_rule_arns = [terraform_data.elsewhere.id, terraform_data.elsewhere.output]
}

module "zip" {
  source     = "../.."
  name       = "globex"
  lambda_zip = terraform_data.elsewhere.id
}

output "roles" {
  description = "Known after the apply, like all of it."
  value       = [module.cmzon.reader_role_arn, module.cmzon.rotator_role_arn, module.zip.rotator_role_arn]
}
