# Two roles: one reads the token, one rotates it. They are those that `cmzon-secrets doctor` prints and
# checks (policies/). What makes them least is where they are assigned: on single secrets. An
# assignment is on a name, and the secret need not be there yet.

locals {
  vault_group_id = var.key_vault == null ? local.resource_group_id : join("/", slice(split("/", var.key_vault.id), 0, 5))
  admin_group_id = var.admin_secret == null ? local.vault_group_id : join("/", slice(split("/", var.admin_secret.id), 0, 5))

  definitions = {
    for role in ["reader", "rotator"] :
    role => jsondecode(templatefile("${path.module}/policies/azurekeyvault.${role}.json", { resource_group_id = local.vault_group_id }))
  }
  role_ids = var.role_definition_ids == null ? {
    for role, definition in azurerm_role_definition.this : role => definition.role_definition_resource_id
  } : { reader = var.role_definition_ids.reader, rotator = var.role_definition_ids.rotator }

  create_rotator_identity = var.create_function || var.rotators.oidc != null
  create_reader_identity  = var.readers.oidc != null

  readers = merge(
    { for who, id in var.readers.principal_ids : "reader ${who}" => { id = id, type = null } },
    { for identity in azurerm_user_assigned_identity.reader : "the reader" => { id = identity.principal_id, type = "ServicePrincipal" } },
  )
  rotators = merge(
    { for who, id in var.rotators.principal_ids : "rotator ${who}" => { id = id, type = null } },
    { for identity in azurerm_user_assigned_identity.rotator : "the rotator" => { id = identity.principal_id, type = "ServicePrincipal" } },
  )
  operators = { for who, id in var.operators : "operator ${who}" => { id = id, type = null } }

  places = {
    token         = "${local.key_vault_id}/secrets/${local.secret_name}"
    pending       = "${local.key_vault_id}/secrets/${local.secret_name}-pending"
    admin         = local.admin_secret_id
    admin_pending = "${local.admin_secret_id}-pending"
  }
  may = {
    reader  = { token = "reader" }
    rotator = { token = "rotator", pending = "rotator", admin = "reader" }
    operator = merge(
      { token = "rotator", pending = "rotator", admin = "reader" },
      var.admin_secret == null ? { admin = "rotator", admin_pending = "rotator" } : {}, # one of yours is not ours to write
    )
  }
  grants = merge([
    for kind, people in { reader = local.readers, rotator = local.rotators, operator = local.operators } : merge([
      for who, principal in people : {
        for place, role in local.may[kind] : "${who}: ${place}" => { principal = principal, place = place, role = role }
      }
    ]...)
  ]...)
}

resource "azurerm_role_definition" "this" {
  for_each = var.role_definition_ids == null ? local.definitions : {}

  name              = "${each.value.Name} ${local.prefix}-${local.unique}" # a tenant has each name once
  description       = each.value.Description
  scope             = local.vault_group_id
  assignable_scopes = distinct(concat(each.value.AssignableScopes, [local.admin_group_id]))

  permissions {
    actions          = each.value.Actions
    not_actions      = each.value.NotActions
    data_actions     = each.value.DataActions
    not_data_actions = each.value.NotDataActions
  }
}

resource "azurerm_role_assignment" "secret" {
  for_each = local.grants

  scope              = local.places[each.value.place]
  role_definition_id = local.role_ids[each.value.role]
  principal_id       = each.value.principal.id
  principal_type     = each.value.principal.type # spares a new identity the wait until Entra ID shows it everywhere
}

# ── identities ──────────────────────────────────────────────────────────────────────────────────

resource "azurerm_user_assigned_identity" "rotator" {
  count = local.create_rotator_identity ? 1 : 0

  name                = "${local.prefix}-rotator"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_user_assigned_identity" "reader" {
  count = local.create_reader_identity ? 1 : 0

  name                = "${local.prefix}-reader"
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_federated_identity_credential" "rotator" {
  for_each = toset(try(var.rotators.oidc.service_accounts, []))

  name                = "${replace(each.value, "/[:.]/", "-")}-${substr(sha1(each.value), 0, 6)}"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.rotator[0].id
  issuer              = var.rotators.oidc.issuer_url
  subject             = "system:serviceaccount:${each.value}"
  audience            = ["api://AzureADTokenExchange"]
}

resource "azurerm_federated_identity_credential" "reader" {
  for_each = toset(try(var.readers.oidc.service_accounts, []))

  name                = "${replace(each.value, "/[:.]/", "-")}-${substr(sha1(each.value), 0, 6)}"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.reader[0].id
  issuer              = var.readers.oidc.issuer_url
  subject             = "system:serviceaccount:${each.value}"
  audience            = ["api://AzureADTokenExchange"]
}
