output "key_vault_id" {
  description = "Id of the vault."
  value       = local.key_vault_id
}

output "key_vault_name" {
  description = "Name of the vault."
  value       = local.key_vault_name
}

output "secret_name" {
  description = "Name of the secret that holds the token."
  value       = local.secret_name
}

output "token_uri" {
  description = "Where the token is, for `CMZON_TOKEN_URI` and `cmzon-secrets.toml`; applications add how they log in, such as `?credential=workload`."
  value       = local.token_uri
}

output "admin_secret_id" {
  description = "Id of the secret that holds the admin token."
  value       = local.admin_secret_id
}

output "admin_uri" {
  description = "Where the admin token is, for `CMZON_ADMIN_URI` and `cmzon-secrets.toml`."
  value       = local.admin_uri
}

output "reader_role_definition_id" {
  description = "Id of the role that reads a token."
  value       = local.role_ids["reader"]
}

output "rotator_role_definition_id" {
  description = "Id of the role that rotates a token."
  value       = local.role_ids["rotator"]
}

output "reader_client_id" {
  description = "Client id of the identity that reads the token, for the annotation `azure.workload.identity/client-id`; null without `readers.oidc`."
  value       = one(azurerm_user_assigned_identity.reader[*].client_id)
}

output "rotator_client_id" {
  description = "Client id of the identity that rotates the token; null where none is made."
  value       = local.client_id
}

output "rotator_principal_id" {
  description = "Object id of the identity that rotates the token; null where none is made."
  value       = one(azurerm_user_assigned_identity.rotator[*].principal_id)
}

output "tenant_id" {
  description = "Tenant of the vault and the identities."
  value       = local.tenant_id
}

output "function_name" {
  description = "Name of the function app that rotates; null without one."
  value       = one(azurerm_linux_function_app.rotation[*].name)
}

output "function_id" {
  description = "Id of the function app that rotates; null without one."
  value       = one(azurerm_linux_function_app.rotation[*].id)
}

output "function_subnet_id" {
  description = "Id of the function's subnet, for the firewall of a vault of yours; null without a function."
  value       = one(local.function_subnet_ids)
}

output "rotation" {
  description = "The policy in force: what was given, and the defaults."
  value       = var.rotation
}

output "environment" {
  description = "What the rotator is told, as environment variables: the function, or a CronJob of `rotators.oidc`. No secret is among them."
  value       = local.environment
}

output "application_insights_id" {
  description = "Where the function tells what it did; null without one."
  value       = one(azurerm_application_insights.function[*].id)
}

output "log_analytics_workspace_id" {
  description = "Id of the workspace of the logs; null where there is nothing to log."
  value       = local.workspace_id
}

output "action_group_id" {
  description = "Id of the action group of the alarms; null without alarms."
  value       = local.create_alarms ? local.action_group_id : null
}

output "egress_ips" {
  description = "Addresses from which the function calls the API, for CMzon's allowlist; empty without `egress`."
  value       = azurerm_public_ip.egress[*].ip_address
}

output "first_steps" {
  description = "What to type after the first apply."
  value = join("\n", concat(
    var.admin_secret == null && var.admin_token_wo_version == null ? [
      "# The token with the scope tokens:manage, from CMzon's dashboard; asked for, never an argument:",
      "cmzon-secrets put --create '${local.admin_uri}'",
    ] : [],
    [
      "# The token in use now, or a new one from the dashboard; from here on it is rotated:",
      "cmzon-secrets put --create '${local.token_uri}'",
    ],
    var.create_function && var.function_zip == null ? [
      "# The function's code, built as the module's README says under Deploy:",
      "${local.deploy_command} --src rotation.zip",
    ] : [],
    [
      "# What is right and what is not, as an operator:",
      "cmzon-secrets doctor --admin '${local.admin_uri}'${var.base_url == null ? "" : " --base-url '${var.base_url}'"} '${local.token_uri}'",
    ],
  ))
}
