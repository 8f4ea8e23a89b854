# In what a company has: a vault, a workspace and an action group of its own, an admin token that other
# accounts share, applications in AKS, and one fixed address for CMzon's allowlist.

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
      data_plane_available = false
    }
  }
}

variable "function_zip" {
  description = "Path of the function's zip."
  type        = string
  default     = null
}

data "azurerm_resource_group" "platform" {
  name = "platform"
}

data "azurerm_kubernetes_cluster" "shop" {
  name                = "shop"
  resource_group_name = data.azurerm_resource_group.platform.name
}

data "azurerm_log_analytics_workspace" "platform" {
  name                = "platform"
  resource_group_name = data.azurerm_resource_group.platform.name
}

data "azurerm_monitor_action_group" "oncall" {
  name                = "oncall"
  resource_group_name = data.azurerm_resource_group.platform.name
}

data "azurerm_key_vault" "platform" {
  name                = "platform"
  resource_group_name = data.azurerm_resource_group.platform.name
}

data "azurerm_user_assigned_identity" "web" {
  name                = "web"
  resource_group_name = data.azurerm_resource_group.platform.name
}

module "cmzon" {
  source = "../.."

  name                = "acme-eu"
  resource_group_name = data.azurerm_resource_group.platform.name
  location            = data.azurerm_resource_group.platform.location
  tags                = { team = "platform", cost-centre = "4711" }

  key_vault_sku      = "premium"
  allowed_cidrs      = ["198.51.100.0/24"]
  allowed_subnet_ids = [data.azurerm_kubernetes_cluster.shop.agent_pool_profile[0].vnet_subnet_id]
  admin_secret       = { id = "${data.azurerm_key_vault.platform.id}/secrets/cmzon-admin" }

  operators = { platform = "00000000-0000-0000-0000-000000000001" }
  readers = {
    principal_ids = { web = data.azurerm_user_assigned_identity.web.principal_id }
    oidc = {
      issuer_url       = data.azurerm_kubernetes_cluster.shop.oidc_issuer_url
      service_accounts = ["shop:orders", "external-secrets:cmzon"]
    }
  }

  rotation = {
    rotate_every = "7d"
    grace        = "48h"
    scopes       = ["messages:send", "messages:read"]
    allowed_ips  = ["198.51.100.0/24"]
  }

  function_zip = var.function_zip
  egress       = true

  action_group            = { id = data.azurerm_monitor_action_group.oncall.id }
  log_analytics_workspace = { id = data.azurerm_log_analytics_workspace.platform.id }
  silent_after_hours      = 6
}

output "egress_ips" {
  description = "For the allowlist of the CMzon API."
  value       = module.cmzon.egress_ips
}

output "reader_client_id" {
  description = "For the annotation of the service accounts that read."
  value       = module.cmzon.reader_client_id
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = module.cmzon.first_steps
}
