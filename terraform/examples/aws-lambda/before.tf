# What is there before: a function that sends, and its role. One line of it is new.

resource "aws_lambda_function" "shop" {
  # checkov:skip=CKV_AWS_50:the function is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AWS_115:the function is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AWS_116:the function is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AWS_117:the function is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AWS_173:it holds the address of a secret, which is none
  # checkov:skip=CKV_AWS_272:the function is yours; what stands here is for the line that is new
  function_name = "shop"
  role          = aws_iam_role.shop.arn
  handler       = "sender.handler"
  runtime       = "python3.13"
  filename      = "dist/shop.zip"

  environment {
    variables = {
      CMZON_TOKEN_URI = module.cmzon.token_uri
    }
  }
}

resource "aws_iam_role" "shop" {
  name               = "shop"
  assume_role_policy = data.aws_iam_policy_document.lambda.json
}

data "aws_iam_policy_document" "lambda" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}
