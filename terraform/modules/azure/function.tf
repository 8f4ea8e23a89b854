# The function that rotates: examples/azure-function, each hour. Nothing here has a key: it logs in
# everywhere as the rotator's identity.

locals {
  function_name = "${local.prefix}-${local.unique}"
  client_id     = one(azurerm_user_assigned_identity.rotator[*].client_id)

  login = var.create_function ? "?credential=managed&client_id=${local.client_id}" : var.rotators.oidc == null ? "" : "?credential=workload"

  settings = {
    CMZON_TOKEN_URI     = "${local.token_uri}${local.login}"
    CMZON_ADMIN_URI     = "${local.admin_uri}${local.login}"
    CMZON_BASE_URL      = var.base_url
    CMZON_ROTATION_NAME = var.name
  }
  policy = {
    for field, value in var.rotation :
    "CMZON_ROTATION_${upper(field)}" => try(join(",", value), value)
  }
  unit_seconds = { s = 1, m = 60, h = 3600, d = 86400 }
  seconds = {
    for field in ["grace", "expires_in", "renew_before", "reader_ttl", "request_deadline", "revoke_limit"] :
    field => var.rotation[field] == null ? null : tonumber(trim(var.rotation[field], "smhd")) * local.unit_seconds[substr(var.rotation[field], -1, 1)]
  }
  # When a token that expires is due, where the policy does not say.
  renew_before = local.seconds.expires_in == null ? null : coalesce(local.seconds.renew_before, max(local.seconds.expires_in / 4, local.seconds.grace))

  environment = merge({ for name, value in merge(local.settings, local.policy) : name => value if value != null && value != "" }, var.environment)
}

resource "azurerm_storage_account" "function" {
  # checkov:skip=CKV_AZURE_43:it cannot compute the name; a test holds the longest one to the rule
  # checkov:skip=CKV_AZURE_59:its firewall denies all but the function's subnet, and Azure asks who comes besides: there is no key
  # checkov:skip=CKV_AZURE_206:it holds who of the hosts leads and when the timer last rang; what is lost is made anew
  # checkov:skip=CKV_AZURE_33:the function has no queue
  # checkov:skip=CKV2_AZURE_1:it holds no token, and Microsoft's keys encrypt what it holds
  # checkov:skip=CKV2_AZURE_33:a private endpoint belongs into a network of yours; the function comes by its subnet's service endpoint
  count = var.create_function ? 1 : 0

  name                              = "cmzon${substr(replace(var.name, "-", ""), 0, 13)}${local.unique}"
  resource_group_name               = var.resource_group_name
  location                          = var.location
  account_tier                      = "Standard"
  account_replication_type          = "LRS"
  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  shared_access_key_enabled         = false # so the keys that the provider reads into the state open nothing
  default_to_oauth_authentication   = true
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  local_user_enabled                = false
  infrastructure_encryption_enabled = true
  tags                              = var.tags

  blob_properties {
    delete_retention_policy {
      days = 7
    }

    container_delete_retention_policy {
      days = 7
    }
  }

  sas_policy {
    expiration_period = "00.01:00:00"
  }

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    virtual_network_subnet_ids = local.function_subnet_ids
  }
}

resource "azurerm_role_assignment" "storage" {
  count = var.create_function ? 1 : 0

  scope                = azurerm_storage_account.function[0].id
  role_definition_name = "Storage Blob Data Owner" # what the host of Functions asks for
  principal_id         = azurerm_user_assigned_identity.rotator[0].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "telemetry" {
  count = var.create_function ? 1 : 0

  scope                = azurerm_application_insights.function[0].id
  role_definition_name = "Monitoring Metrics Publisher"
  principal_id         = azurerm_user_assigned_identity.rotator[0].principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_application_insights" "function" {
  count = var.create_function ? 1 : 0

  name                          = local.prefix
  resource_group_name           = var.resource_group_name
  location                      = var.location
  application_type              = "other"
  workspace_id                  = local.workspace_id
  sampling_percentage           = 100 # every step is a line, and none may be missing
  local_authentication_disabled = true
  tags                          = var.tags
}

resource "azurerm_service_plan" "function" {
  # checkov:skip=CKV_AZURE_211:the smallest dedicated size runs one job of seconds an hour
  # checkov:skip=CKV_AZURE_212:a second instance would wait for the first; an hour without a run is late, not lost
  # checkov:skip=CKV_AZURE_225:an hour without a run is late, not lost, and the alarm of silence tells
  count = var.create_function ? 1 : 0

  name                = local.prefix
  resource_group_name = var.resource_group_name
  location            = var.location
  os_type             = "Linux"
  sku_name            = var.plan_sku
  worker_count        = 1
  tags                = var.tags
}

resource "azurerm_linux_function_app" "rotation" {
  # checkov:skip=CKV_AZURE_221:its site answers nobody (ip_restriction_default_action), and its deployment site allowed_cidrs alone
  count = var.create_function ? 1 : 0

  name                = local.function_name
  resource_group_name = var.resource_group_name
  location            = var.location
  service_plan_id     = azurerm_service_plan.function[0].id
  tags                = var.tags

  storage_account_name          = azurerm_storage_account.function[0].name
  storage_uses_managed_identity = true
  builtin_logging_enabled       = false # a second log, for which it wants a key

  https_only                                     = true
  ftp_publish_basic_authentication_enabled       = false # so the password that the provider reads into the state opens nothing
  webdeploy_publish_basic_authentication_enabled = false
  virtual_network_subnet_id                      = local.function_subnet_id
  key_vault_reference_identity_id                = azurerm_user_assigned_identity.rotator[0].id

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.rotator[0].id]
  }

  site_config {
    always_on                              = true # or its clock stops
    application_insights_connection_string = azurerm_application_insights.function[0].connection_string
    ftps_state                             = "Disabled"
    http2_enabled                          = true
    minimum_tls_version                    = "1.2"
    scm_minimum_tls_version                = "1.2"
    vnet_route_all_enabled                 = true # also to public addresses: the vault's firewall knows the subnet
    worker_count                           = 1

    ip_restriction_default_action     = "Deny" # a timer calls it, and nobody else
    scm_use_main_ip_restriction       = false
    scm_ip_restriction_default_action = "Deny"

    dynamic "scm_ip_restriction" {
      for_each = sort(local.allowed_ranges)

      content {
        name       = "allowed-${scm_ip_restriction.key}"
        action     = "Allow"
        ip_address = scm_ip_restriction.value
        priority   = 100 + scm_ip_restriction.key
      }
    }

    application_stack {
      python_version = var.python_version
    }
  }

  app_settings = merge(local.environment, {
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "ClientId=${local.client_id};Authorization=AAD"
    AzureWebJobsStorage__clientId             = local.client_id
    AzureWebJobsStorage__credential           = "managedidentity"
    WEBSITE_RUN_FROM_PACKAGE                  = "1" # what runs is what was deployed, and nothing is built in production
  })

  lifecycle {
    ignore_changes = [ # where somebody looks at its telemetry, the portal notes there which it is
      tags["hidden-link: /app-insights-conn-string"],
      tags["hidden-link: /app-insights-instrumentation-key"],
      tags["hidden-link: /app-insights-resource-id"],
    ]

    # What the function would refuse at its first run:
    precondition {
      condition     = local.seconds.grace >= local.seconds.reader_ttl + local.seconds.request_deadline
      error_message = "rotation: grace is shorter than reader_ttl and request_deadline together, and a token would be revoked while readers use it. Raise grace."
    }

    precondition {
      condition     = local.seconds.revoke_limit >= local.seconds.grace
      error_message = "rotation: revoke_limit is shorter than grace, and both count from the promotion. Raise revoke_limit, or shorten grace."
    }

    precondition {
      condition     = local.renew_before == null ? true : local.renew_before >= local.seconds.grace
      error_message = "rotation: renew_before is shorter than grace, and the old token would expire within its grace. Raise renew_before."
    }

    precondition {
      condition     = local.renew_before == null ? true : local.seconds.expires_in > local.renew_before + local.seconds.grace
      error_message = "rotation: expires_in is not longer than renew_before (a quarter of expires_in, at least grace) and grace together, and a new token would be due before the last one is retired. Raise expires_in, or shorten grace."
    }
  }

  depends_on = [ # or its first hour is refused
    azurerm_role_assignment.secret,
    azurerm_role_assignment.storage,
    azurerm_role_assignment.telemetry,
    azurerm_subnet_network_security_group_association.function,
    azurerm_subnet_nat_gateway_association.egress,
    azurerm_nat_gateway_public_ip_association.egress,
  ]
}

# The provider's own way to deploy logs in with a password that it keeps in the state. `az` uses the
# login of whoever applies.
resource "terraform_data" "package" {
  count = var.create_function && var.function_zip != null ? 1 : 0

  triggers_replace = [filesha256(var.function_zip), azurerm_linux_function_app.rotation[0].id]

  provisioner "local-exec" {
    command = "${local.deploy_command} --src \"${abspath(var.function_zip)}\""
  }
}

locals {
  deploy_command = "az functionapp deployment source config-zip --subscription ${local.subscription_id} --resource-group \"${var.resource_group_name}\" --name ${local.function_name}"
}
