# A token that a function rotates, and App Service puts into the environment of a web app.

module "cmzon" {
  source = "../../modules/azure"

  name                = "acme"
  resource_group_name = "shop"
  location            = "westeurope"
  key_vault_name      = "shop-cmzon" # the only one in the world
  function_zip        = "rotation.zip"
  rotation            = { reader_ttl = "24h", grace = "48h" } # App Service looks again within 24 hours
  readers             = { principal_ids = { shop = azurerm_linux_web_app.shop.identity[0].principal_id } }
  allowed_subnet_ids  = [azurerm_linux_web_app.shop.virtual_network_subnet_id]
  allowed_cidrs       = ["203.0.113.7"]                                       # where you type what follows,
  operators           = { platform = "11111111-2222-3333-4444-555555555555" } # as a member of this group
  alarm_emails        = ["oncall@example.com"]
}
