terraform {
  required_version = ">= 1.11"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5, < 6" # checked here: the schema of 5.6.0
    }
  }
}
