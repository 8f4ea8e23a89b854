# A token that a function rotates each hour where due, and an application with an identity of its own reads.

module "cmzon" {
  source = "../../modules/azure"

  name                = "acme"
  resource_group_name = "shop"
  location            = "westeurope"
  key_vault_name      = "shop-cmzon" # the only one in the world
  function_zip        = "rotation.zip"
  readers             = { principal_ids = { shop = azurerm_user_assigned_identity.shop.principal_id } }
  allowed_subnet_ids  = [local.subnet_id]                                     # where the application runs
  allowed_cidrs       = ["203.0.113.7"]                                       # and where you type what follows,
  operators           = { platform = "11111111-2222-3333-4444-555555555555" } # as a member of this group
  alarm_emails        = ["oncall@example.com"]
}
