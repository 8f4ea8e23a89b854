# A token that a function rotates each hour where due, and another function reads.

module "cmzon" {
  source = "../../modules/aws"

  name         = "acme"
  lambda_zip   = "dist/cmzon-secrets-lambda.zip"
  alarm_emails = ["oncall@example.com"]
  tags         = { service = "shop" }
}

resource "aws_iam_role_policy_attachment" "shop_reads_the_token" {
  role       = aws_iam_role.shop.name
  policy_arn = module.cmzon.reader_policy_arn
}
