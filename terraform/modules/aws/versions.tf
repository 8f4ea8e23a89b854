terraform {
  required_version = ">= 1.11" # write-only arguments

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.88, < 7" # 5.88 is the first with secret_string_wo; tested with 5.100
    }
  }
}
