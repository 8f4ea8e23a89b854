# What is there before: the provider, and a web app with an identity and a subnet. One line of it is new.

provider "azurerm" {
  features {
    storage {
      data_plane_available = false # the function's storage account has no key, and lets nobody in
    }
  }
}

locals {
  group_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop"
}

resource "azurerm_linux_web_app" "shop" {
  # checkov:skip=CKV_AZURE_13:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_17:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_63:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_65:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_66:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_88:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_213:the web app is yours; what stands here is for the line that is new
  # checkov:skip=CKV_AZURE_222:the web app is yours; what stands here is for the line that is new
  name                      = "shop"
  resource_group_name       = "shop"
  location                  = "westeurope"
  service_plan_id           = "${local.group_id}/providers/Microsoft.Web/serverFarms/shop"
  https_only                = true
  virtual_network_subnet_id = "${local.group_id}/providers/Microsoft.Network/virtualNetworks/shop/subnets/web"

  app_settings = {
    CMZON_API_TOKEN = "@Microsoft.KeyVault(SecretUri=https://${module.cmzon.key_vault_name}.vault.azure.net/secrets/${module.cmzon.secret_name}/)"
  }

  identity {
    type = "SystemAssigned"
  }

  site_config {
    vnet_route_all_enabled = true # or it looks for the vault from outside of its subnet
    ftps_state             = "Disabled"
    http2_enabled          = true
  }
}
