# From nothing to a vault, a function that rotates, and somebody who is told.

terraform {
  required_version = ">= 1.11"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.55, < 5"
    }
  }
}

provider "azurerm" {
  features {
    storage {
      data_plane_available = false # the function's storage account has no key and lets nobody in
    }
  }
}

data "azurerm_client_config" "me" {}

resource "azurerm_resource_group" "cmzon" {
  name     = "cmzon"
  location = "westeurope"
}

module "cmzon" {
  source = "../.."

  name                = "acme"
  resource_group_name = azurerm_resource_group.cmzon.name
  location            = azurerm_resource_group.cmzon.location

  allowed_cidrs = ["203.0.113.7"] # where you are: the vault lets nobody else in
  operators     = { me = data.azurerm_client_config.me.object_id }
  alarm_emails  = ["oncall@example.com"]
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = module.cmzon.first_steps
}
