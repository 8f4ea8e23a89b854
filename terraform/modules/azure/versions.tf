terraform {
  required_version = ">= 1.11" # write-only arguments

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.55, < 5" # 4.55 is the oldest whose arguments are checked here
    }
  }
}
