# What is there before: the provider, and an application's subnet and identity.

provider "azurerm" {
  features {
    storage {
      data_plane_available = false # the function's storage account has no key, and lets nobody in
    }
  }
}

locals {
  subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.Network/virtualNetworks/shop/subnets/shop"
}

resource "azurerm_user_assigned_identity" "shop" {
  name                = "shop"
  resource_group_name = "shop"
  location            = "westeurope"
}
