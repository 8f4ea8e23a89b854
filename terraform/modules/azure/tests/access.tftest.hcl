# Who may do what, and where: on single secrets, never on the vault.

mock_provider "azurerm" {
  override_during = plan # or ids are unknown, and where a role is assigned with them

  mock_data "azurerm_client_config" {
    defaults = {
      subscription_id = "s"
      tenant_id       = "00000000-0000-0000-0000-00000000bbbb"
    }
  }

  mock_resource "azurerm_key_vault" {
    defaults = {
      id = "/subscriptions/s/resourceGroups/cmzon/providers/Microsoft.KeyVault/vaults/v"
    }
  }

  mock_resource "azurerm_storage_account" {
    defaults = {
      id = "/subscriptions/s/resourceGroups/cmzon/providers/Microsoft.Storage/storageAccounts/a"
    }
  }

  mock_resource "azurerm_application_insights" {
    defaults = {
      id = "/subscriptions/s/resourceGroups/cmzon/providers/Microsoft.Insights/components/c"
    }
  }

  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/s/resourceGroups/cmzon/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
      principal_id = "00000000-0000-0000-0000-0000000000f0"
      client_id    = "00000000-0000-0000-0000-0000000000f1"
    }
  }
}

variables {
  name                = "acme"
  resource_group_name = "cmzon"
  location            = "westeurope"
  role_definition_ids = {
    reader  = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/reader"
    rotator = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/rotator"
  }
}

run "the_function_rotates_two_secrets_and_reads_the_third" {
  command = plan

  assert {
    condition = {
      for assignment in azurerm_role_assignment.secret :
      trimprefix(assignment.scope, "/subscriptions/s/resourceGroups/cmzon/providers/Microsoft.KeyVault/vaults/v/secrets/") => basename(assignment.role_definition_id)
      } == {
      "cmzon-acme"         = "rotator"
      "cmzon-acme-pending" = "rotator"
      "cmzon-acme-admin"   = "reader"
    }
    error_message = "no more, and on no more"
  }

  assert {
    condition     = alltrue([for assignment in azurerm_role_assignment.secret : assignment.principal_id == "00000000-0000-0000-0000-0000000000f0"])
    error_message = "and nobody else has anything"
  }

  assert {
    condition     = output.environment["CMZON_TOKEN_URI"] == "azurekeyvault://${output.key_vault_name}/secrets/cmzon-acme?credential=managed&client_id=00000000-0000-0000-0000-0000000000f1"
    error_message = "it logs in as that identity and tries nothing else"
  }

  assert {
    condition     = endswith(azurerm_role_assignment.storage[0].scope, "/storageAccounts/a") && endswith(azurerm_role_assignment.telemetry[0].scope, "/components/c")
    error_message = "its own storage and telemetry"
  }
}

run "a_reader_reads_the_token_alone" {
  command = plan

  variables {
    create_function = false
    rotators        = { principal_ids = { vm = "00000000-0000-0000-0000-000000000001" } }
    readers = {
      principal_ids = { web = "00000000-0000-0000-0000-000000000002" }
      oidc          = { issuer_url = "https://oidc.example.com/", service_accounts = ["shop:web", "shop:web.eu"] }
    }
  }

  assert {
    condition = {
      for who, assignment in azurerm_role_assignment.secret : who => "${basename(assignment.role_definition_id)} of ${basename(assignment.scope)} for ${substr(assignment.principal_id, -2, 2)}"
      } == {
      "reader web: token"   = "reader of cmzon-acme for 02"
      "the reader: token"   = "reader of cmzon-acme for f0"
      "rotator vm: token"   = "rotator of cmzon-acme for 01"
      "rotator vm: pending" = "rotator of cmzon-acme-pending for 01"
      "rotator vm: admin"   = "reader of cmzon-acme-admin for 01"
    }
    error_message = "one secret for each reader"
  }

  assert {
    condition     = length(distinct([for credential in azurerm_federated_identity_credential.reader : credential.name])) == 2 && alltrue([for credential in azurerm_federated_identity_credential.reader : can(regex("^[A-Za-z0-9_-]{3,120}$", credential.name))])
    error_message = "service accounts become names that Azure takes, and no two become one"
  }

  assert {
    condition     = output.reader_client_id == "00000000-0000-0000-0000-0000000000f1" && output.rotator_client_id == null
    error_message = "the cluster's annotation"
  }

  assert {
    condition     = output.environment["CMZON_TOKEN_URI"] == output.token_uri
    error_message = "how a machine of yours logs in is yours to say"
  }
}

run "an_operator_fills_all_and_deletes_nothing" {
  command = plan

  variables {
    operators = { me = "00000000-0000-0000-0000-000000000009" }
  }

  assert {
    condition = {
      for who, assignment in azurerm_role_assignment.secret : basename(assignment.scope) => basename(assignment.role_definition_id) if startswith(who, "operator ")
      } == {
      "cmzon-acme"               = "rotator"
      "cmzon-acme-pending"       = "rotator"
      "cmzon-acme-admin"         = "rotator"
      "cmzon-acme-admin-pending" = "rotator"
    }
    error_message = "the rotator's role, which cannot delete, on four secrets"
  }
}

run "an_admin_token_of_yours_is_only_read" {
  command = plan

  variables {
    operators    = { me = "00000000-0000-0000-0000-000000000009" }
    admin_secret = { id = "/subscriptions/s/resourceGroups/other/providers/Microsoft.KeyVault/vaults/other/secrets/boss" }
  }

  assert {
    condition     = [for assignment in azurerm_role_assignment.secret : basename(assignment.role_definition_id) if strcontains(assignment.scope, "/vaults/other/secrets/boss")] == ["reader", "reader"]
    error_message = "by operators too"
  }
}

run "the_roles_are_those_that_doctor_prints" {
  command = plan

  variables {
    role_definition_ids = null
  }

  assert {
    condition     = azurerm_role_definition.this["reader"].permissions[0].data_actions == toset(jsondecode(file("policies/azurekeyvault.reader.json")).DataActions)
    error_message = "the reader's"
  }

  assert {
    condition     = azurerm_role_definition.this["rotator"].permissions[0].data_actions == toset(jsondecode(file("policies/azurekeyvault.rotator.json")).DataActions)
    error_message = "the rotator's"
  }

  assert {
    condition     = azurerm_role_definition.this["reader"].assignable_scopes == tolist(["/subscriptions/s/resourceGroups/cmzon"]) && startswith(azurerm_role_definition.this["reader"].name, "CMzon token reader cmzon-acme-")
    error_message = "for this resource group, under a name that no other use of the module takes"
  }
}
