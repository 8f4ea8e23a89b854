# One CMzon token in Key Vault and what rotates it. Terraform makes the places and the rights; no value
# passes through it, but an admin token on its way to Key Vault where one is given. The secrets
# themselves are made by `cmzon-secrets put --create`: rotation writes their versions and their tags.

data "azurerm_client_config" "current" {}

locals {
  subscription_id   = data.azurerm_client_config.current.subscription_id
  tenant_id         = data.azurerm_client_config.current.tenant_id
  resource_group_id = "/subscriptions/${local.subscription_id}/resourceGroups/${var.resource_group_name}"

  prefix = "cmzon-${var.name}"
  unique = substr(sha1("${local.resource_group_id}/${var.name}"), 0, 6) # the same in every apply, so that a deleted vault is found and recovered

  key_vault_name_made = coalesce(var.key_vault_name, "cmzon-${trimsuffix(substr(var.name, 0, 11), "-")}-${local.unique}")
  key_vault_id        = var.key_vault == null ? azurerm_key_vault.this[0].id : var.key_vault.id
  key_vault_name      = var.key_vault == null ? local.key_vault_name_made : split("/", var.key_vault.id)[8]

  secret_name       = coalesce(var.secret_name, local.prefix)
  admin_secret_name = var.admin_secret == null ? "${local.secret_name}-admin" : split("/", var.admin_secret.id)[10]
  admin_vault_name  = var.admin_secret == null ? local.key_vault_name : split("/", var.admin_secret.id)[8]
  admin_secret_id   = var.admin_secret == null ? "${local.key_vault_id}/secrets/${local.admin_secret_name}" : var.admin_secret.id

  domain    = var.key_vault_domain == "vault.azure.net" ? "" : ".${var.key_vault_domain}" # in the public cloud a vault's name is enough
  token_uri = "azurekeyvault://${local.key_vault_name}${local.domain}/secrets/${local.secret_name}"
  admin_uri = "azurekeyvault://${local.admin_vault_name}${local.domain}/secrets/${local.admin_secret_name}"
}

resource "azurerm_key_vault" "this" {
  # checkov:skip=CKV2_AZURE_32:a private endpoint belongs into a network and a DNS zone of yours; the function comes by its subnet's service endpoint
  count = var.key_vault == null ? 1 : 0

  name                          = local.key_vault_name_made
  resource_group_name           = var.resource_group_name
  location                      = var.location
  tenant_id                     = local.tenant_id
  sku_name                      = var.key_vault_sku
  rbac_authorization_enabled    = true # access policies cannot limit anybody to one secret
  purge_protection_enabled      = var.purge_protection_enabled
  soft_delete_retention_days    = var.soft_delete_retention_days
  public_network_access_enabled = var.public_network_access_enabled
  tags                          = var.tags

  network_acls {
    default_action             = "Deny"
    bypass                     = "AzureServices"
    ip_rules                   = local.allowed_ranges
    virtual_network_subnet_ids = concat(tolist(var.allowed_subnet_ids), local.function_subnet_ids)
  }
}

resource "azurerm_key_vault_secret" "admin" {
  # checkov:skip=CKV_AZURE_41:whether a token ends, and when, its issuer knows; Key Vault hands out expired secrets all the same
  count = var.admin_token_wo_version == null ? 0 : 1

  name             = local.admin_secret_name
  key_vault_id     = local.key_vault_id
  content_type     = "text/plain"
  value_wo         = var.admin_token_wo
  value_wo_version = var.admin_token_wo_version # with it the provider keeps what it reads out of the state, too
  tags             = var.tags

  lifecycle {
    ignore_changes = [content_type, expiration_date, tags] # where somebody replaces it with `cmzon-secrets put`
  }

  depends_on = [azurerm_role_assignment.secret]
}

# ── who read what ───────────────────────────────────────────────────────────────────────────────

resource "azurerm_monitor_diagnostic_setting" "key_vault" {
  count = var.key_vault == null ? 1 : 0

  name                       = "audit"
  target_resource_id         = azurerm_key_vault.this[0].id
  log_analytics_workspace_id = local.workspace_id

  enabled_log {
    category = "AuditEvent"
  }
}

resource "azurerm_log_analytics_workspace" "this" {
  count = local.create_workspace ? 1 : 0

  name                         = local.prefix
  resource_group_name          = var.resource_group_name
  location                     = var.location
  sku                          = "PerGB2018"
  retention_in_days            = var.log_retention_in_days
  local_authentication_enabled = false # logs come in by Entra ID alone: nobody can forge a run
  tags                         = var.tags
}

locals {
  create_workspace = var.log_analytics_workspace == null && (var.create_function || var.key_vault == null)
  workspace_id     = var.log_analytics_workspace == null ? one(azurerm_log_analytics_workspace.this[*].id) : var.log_analytics_workspace.id
}
