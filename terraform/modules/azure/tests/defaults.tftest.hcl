# What is made where little is said: safe, and whole.

mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = {
      subscription_id = "00000000-0000-0000-0000-00000000aaaa"
      tenant_id       = "00000000-0000-0000-0000-00000000bbbb"
      object_id       = "00000000-0000-0000-0000-00000000cccc"
    }
  }
}

variables {
  name                = "acme"
  resource_group_name = "cmzon"
  location            = "westeurope"
}

run "all_is_closed_and_nothing_has_a_key" {
  command = plan

  assert {
    condition     = azurerm_key_vault.this[0].rbac_authorization_enabled && azurerm_key_vault.this[0].purge_protection_enabled && azurerm_key_vault.this[0].soft_delete_retention_days == 90
    error_message = "roles, purge protection and 90 days"
  }

  assert {
    condition     = azurerm_key_vault.this[0].network_acls[0].default_action == "Deny" && length(azurerm_key_vault.this[0].network_acls[0].ip_rules) == 0
    error_message = "the firewall denies, and knows no address"
  }

  assert {
    condition     = can(regex("^cmzon-acme-[0-9a-f]{6}$", azurerm_key_vault.this[0].name)) && azurerm_key_vault.this[0].tenant_id == "00000000-0000-0000-0000-00000000bbbb"
    error_message = "a name of its own, in the tenant of whoever applies"
  }

  assert {
    condition     = [for log in azurerm_monitor_diagnostic_setting.key_vault[0].enabled_log : log.category] == ["AuditEvent"]
    error_message = "who read what is kept"
  }

  assert {
    condition     = azurerm_log_analytics_workspace.this[0].retention_in_days == 365
    error_message = "for a year"
  }

  assert {
    condition     = !azurerm_storage_account.function[0].shared_access_key_enabled && !azurerm_storage_account.function[0].allow_nested_items_to_be_public && !azurerm_storage_account.function[0].local_user_enabled
    error_message = "the storage account has neither keys nor public blobs nor users"
  }

  assert {
    condition     = azurerm_storage_account.function[0].min_tls_version == "TLS1_2" && azurerm_storage_account.function[0].network_rules[0].default_action == "Deny"
    error_message = "TLS 1.2, and a firewall"
  }

  assert {
    condition     = azurerm_linux_function_app.rotation[0].storage_uses_managed_identity && azurerm_linux_function_app.rotation[0].storage_account_access_key == null
    error_message = "the function comes to its storage by its identity"
  }

  assert {
    condition     = !azurerm_linux_function_app.rotation[0].ftp_publish_basic_authentication_enabled && !azurerm_linux_function_app.rotation[0].webdeploy_publish_basic_authentication_enabled && azurerm_linux_function_app.rotation[0].site_config[0].ftps_state == "Disabled"
    error_message = "no password deploys"
  }

  assert {
    condition     = azurerm_application_insights.function[0].local_authentication_disabled && !azurerm_log_analytics_workspace.this[0].local_authentication_enabled
    error_message = "nobody forges telemetry"
  }

  assert {
    condition     = length(azurerm_key_vault_secret.admin) == 0
    error_message = "no secret is written"
  }

  assert {
    condition     = azurerm_linux_function_app.rotation[0].https_only && azurerm_linux_function_app.rotation[0].site_config[0].ip_restriction_default_action == "Deny" && azurerm_linux_function_app.rotation[0].site_config[0].scm_ip_restriction_default_action == "Deny"
    error_message = "both its sites are closed"
  }

  assert {
    condition     = azurerm_linux_function_app.rotation[0].site_config[0].always_on && azurerm_service_plan.function[0].sku_name == "B1" && azurerm_service_plan.function[0].os_type == "Linux"
    error_message = "its clock does not stop"
  }

  assert {
    condition     = azurerm_linux_function_app.rotation[0].site_config[0].vnet_route_all_enabled && azurerm_subnet.function[0].service_endpoints == toset(["Microsoft.KeyVault", "Microsoft.Storage"])
    error_message = "it reaches the vault by its subnet"
  }

  assert {
    condition     = length(azurerm_nat_gateway.egress) == 0 && length(output.egress_ips) == 0
    error_message = "a NAT gateway costs, and is asked for"
  }
}

run "somebody_is_told" {
  command = plan

  variables {
    alarm_emails = ["oncall@example.com"]
  }

  assert {
    condition     = keys(azurerm_monitor_scheduled_query_rules_alert_v2.this) == ["attention", "failed", "silent"]
    error_message = "three alarms"
  }

  assert {
    condition     = azurerm_monitor_scheduled_query_rules_alert_v2.this["silent"].window_duration == "PT3H" && azurerm_monitor_scheduled_query_rules_alert_v2.this["silent"].criteria[0].operator == "LessThan"
    error_message = "three hours without a run"
  }

  assert {
    condition     = [for receiver in azurerm_monitor_action_group.alarms[0].email_receiver : receiver.email_address] == ["oncall@example.com"] && length(azurerm_monitor_action_group.alarms[0].short_name) <= 12
    error_message = "by mail"
  }
}

run "the_longest_names_fit_and_addresses_become_ranges" {
  command = plan

  variables {
    name               = "a-name-that-is-as-long-as-a-name-may-be1"
    silent_after_hours = 48
    allowed_cidrs      = ["203.0.113.7", "198.51.100.0/24"]
  }

  assert {
    condition     = azurerm_key_vault.this[0].network_acls[0].ip_rules == toset(["198.51.100.0/24", "203.0.113.7/32"])
    error_message = "the vault"
  }

  assert {
    condition     = [for rule in azurerm_linux_function_app.rotation[0].site_config[0].scm_ip_restriction : rule.ip_address] == ["198.51.100.0/24", "203.0.113.7/32"]
    error_message = "the deployment site"
  }

  assert {
    condition     = length(azurerm_linux_function_app.rotation[0].site_config[0].ip_restriction) == 0
    error_message = "and not the function's own"
  }

  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", azurerm_key_vault.this[0].name)) && !strcontains(azurerm_key_vault.this[0].name, "--")
    error_message = "a vault's name has 24 characters and no two dashes in a row"
  }

  assert {
    condition     = can(regex("^[a-z0-9]{3,24}$", azurerm_storage_account.function[0].name)) && length(azurerm_linux_function_app.rotation[0].name) <= 60
    error_message = "a storage account's name has 24 letters and digits, and a function's 60"
  }

  assert {
    condition     = azurerm_monitor_scheduled_query_rules_alert_v2.this["silent"].window_duration == "P2D"
    error_message = "Azure Monitor knows P2D, not PT48H"
  }
}

run "egress_is_one_address_and_only_https" {
  command = plan

  variables {
    egress   = true
    base_url = "https://api.example.com:8443/v1"
  }

  assert {
    condition     = length(azurerm_subnet_nat_gateway_association.egress) == 1 && length(azurerm_nat_gateway_public_ip_association.egress) == 1
    error_message = "a NAT gateway with an address, at the subnet"
  }

  assert {
    condition = [
      for rule in azurerm_network_security_group.function[0].security_rule : rule.destination_port_ranges if rule.access == "Allow"
    ] == [toset(["443", "8443"])]
    error_message = "the API's port is let through, and nothing else"
  }
}

run "without_a_function_there_is_no_place_for_one" {
  command = plan

  variables {
    create_function = false
    rotators        = { oidc = { issuer_url = "https://oidc.example.com/", service_accounts = ["cmzon:rotator"] } }
  }

  assert {
    condition = length(concat(
      azurerm_storage_account.function, azurerm_linux_function_app.rotation, azurerm_virtual_network.this,
      azurerm_application_insights.function, azurerm_monitor_action_group.alarms, values(azurerm_monitor_scheduled_query_rules_alert_v2.this),
    )) == 0
    error_message = "nothing but the vault, the roles and an identity"
  }

  assert {
    condition     = azurerm_federated_identity_credential.rotator["cmzon:rotator"].subject == "system:serviceaccount:cmzon:rotator" && endswith(output.environment["CMZON_TOKEN_URI"], "/secrets/cmzon-acme?credential=workload")
    error_message = "the CronJob logs in as its service account"
  }
}

run "a_vault_a_workspace_and_a_subnet_of_yours_are_used" {
  command = plan

  variables {
    key_vault               = { id = "/subscriptions/s/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/shared" }
    admin_secret            = { id = "/subscriptions/s/resourceGroups/other/providers/Microsoft.KeyVault/vaults/other/secrets/admin" }
    log_analytics_workspace = { id = "/subscriptions/s/resourceGroups/shared/providers/Microsoft.OperationalInsights/workspaces/shared" }
    action_group            = { id = "/subscriptions/s/resourceGroups/shared/providers/Microsoft.Insights/actionGroups/oncall" }
    subnet                  = { id = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/functions" }
  }

  assert {
    condition = length(concat(
      azurerm_key_vault.this, azurerm_log_analytics_workspace.this, azurerm_monitor_action_group.alarms,
      azurerm_virtual_network.this, azurerm_monitor_diagnostic_setting.key_vault,
    )) == 0
    error_message = "none is made"
  }

  assert {
    condition     = output.token_uri == "azurekeyvault://shared/secrets/cmzon-acme" && output.admin_uri == "azurekeyvault://other/secrets/admin"
    error_message = "and the URIs name them"
  }

  assert {
    condition     = azurerm_linux_function_app.rotation[0].virtual_network_subnet_id == output.function_subnet_id && endswith(output.function_subnet_id, "/hub/subnets/functions")
    error_message = "the function lives in your subnet"
  }

  assert {
    condition     = azurerm_role_definition.this["reader"].scope == "/subscriptions/s/resourceGroups/shared" && contains(azurerm_role_definition.this["reader"].assignable_scopes, "/subscriptions/s/resourceGroups/other")
    error_message = "the roles can be assigned where the vaults are"
  }
}

run "another_cloud_is_named_in_the_uri" {
  command = plan

  variables {
    key_vault_name   = "acme-cn"
    key_vault_domain = "vault.azure.cn"
  }

  assert {
    condition     = output.token_uri == "azurekeyvault://acme-cn.vault.azure.cn/secrets/cmzon-acme" && output.admin_uri == "azurekeyvault://acme-cn.vault.azure.cn/secrets/cmzon-acme-admin"
    error_message = "by its host"
  }
}
