# A token that a function rotates, and the pods of one service account read.

module "cmzon" {
  source = "../../modules/aws"

  name         = "acme"
  lambda_zip   = "dist/cmzon-secrets-lambda.zip"
  alarm_emails = ["oncall@example.com"]
  readers      = { services = ["pods.eks.amazonaws.com"] }
}

resource "aws_eks_pod_identity_association" "shop" {
  cluster_name    = "prod"
  namespace       = "shop"
  service_account = "shop"
  role_arn        = module.cmzon.reader_role_arn
}
