# A token that a function rotates, and the pods of one service account read.

module "cmzon" {
  source = "../../modules/azure"

  name                = "acme"
  resource_group_name = "shop"
  location            = "westeurope"
  key_vault_name      = "shop-cmzon" # the only one in the world
  function_zip        = "rotation.zip"
  readers             = { oidc = { issuer_url = local.issuer_url, service_accounts = ["shop:shop"] } }
  allowed_subnet_ids  = [local.subnet_id]
  allowed_cidrs       = ["203.0.113.7"]                                       # where you type what follows,
  operators           = { platform = "11111111-2222-3333-4444-555555555555" } # as a member of this group
  alarm_emails        = ["oncall@example.com"]
}
