# What is there before: the provider, and a cluster with workload identity, whose
# `oidcIssuerProfile.issuerUrl` and nodes' subnet these are.

provider "azurerm" {
  features {
    storage {
      data_plane_available = false # the function's storage account has no key, and lets nobody in
    }
  }
}

locals {
  issuer_url = "https://westeurope.oic.prod-aks.azure.com/22222222-3333-4444-5555-666666666666/77777777-8888-9999-aaaa-bbbbbbbbbbbb/"
  subnet_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.Network/virtualNetworks/prod/subnets/nodes"
}
