# What is refused, each by the input that says why and what to write instead.

mock_provider "azurerm" {}

variables {
  name                = "acme"
  resource_group_name = "cmzon"
  location            = "westeurope"
}

run "names_and_numbers_that_azure_would_not_take" {
  command = plan

  variables {
    name                       = "Acme"
    resource_group_name        = "/subscriptions/s/resourceGroups/cmzon"
    key_vault_name             = "a-name-of-twenty-five-chars"
    key_vault_sku              = "gold"
    key_vault_domain           = "vault.example.com"
    soft_delete_retention_days = 1
    secret_name                = "cmzon/acme"
    plan_sku                   = "Y1"
    python_version             = "3.9"
    network_cidr               = "10.0.0.0/28"
    silent_after_hours         = 7
    log_retention_in_days      = 7
  }

  expect_failures = [
    var.name,
    var.resource_group_name,
    var.key_vault_name,
    var.key_vault_sku,
    var.key_vault_domain,
    var.soft_delete_retention_days,
    var.secret_name,
    var.plan_sku,
    var.python_version,
    var.network_cidr,
    var.silent_after_hours,
    var.log_retention_in_days,
  ]
}

run "a_name_where_an_id_belongs" {
  command = plan

  variables {
    key_vault               = { id = "shared" }
    admin_secret            = { id = "https://v.vault.azure.net/secrets/admin" }
    allowed_subnet_ids      = ["nodes"]
    subnet                  = { id = "functions" }
    action_group            = { id = "oncall" }
    log_analytics_workspace = { id = "00000000-0000-0000-0000-000000000000" }
    readers                 = { principal_ids = { web = "web" } }
    rotators                = { principal_ids = { vm = "vm" } }
    operators               = { me = "me@example.com" }
    role_definition_ids     = { reader = "reader", rotator = "rotator" }
  }

  expect_failures = [
    var.key_vault,
    var.admin_secret,
    var.allowed_subnet_ids,
    var.subnet,
    var.action_group,
    var.log_analytics_workspace,
    var.readers,
    var.rotators,
    var.operators,
    var.role_definition_ids,
  ]
}

run "what_would_let_in_too_many_or_nobody" {
  command = plan

  variables {
    allowed_cidrs = ["10.1.2.0/24"]
    readers       = { oidc = { issuer_url = "https://oidc.example.com/", service_accounts = ["shop:*"] } }
    rotators      = { oidc = { issuer_url = "https://oidc.example.com/", service_accounts = [] } }
    base_url      = "http://api.example.com"
    environment   = { CMZON_CA = "cmz_live_0123456789" }
  }

  expect_failures = [
    var.allowed_cidrs,
    var.readers,
    var.rotators,
    var.base_url,
    var.environment,
  ]
}

run "what_is_given_twice" {
  command = plan

  variables {
    key_vault              = { id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v" }
    key_vault_name         = "new"
    admin_secret           = { id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v/secrets/a" }
    admin_token_wo_version = 1
    subnet                 = { id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/f" }
    egress                 = true
    action_group           = { id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Insights/actionGroups/a" }
    alarm_emails           = ["oncall@example.com"]
  }

  expect_failures = [
    var.key_vault_name,
    var.admin_token_wo_version,
    var.egress,
    var.alarm_emails,
  ]
}

run "what_is_written_otherwise" {
  command = plan

  variables {
    name          = "ac--me"
    allowed_cidrs = ["office"]
    secret_name   = "acme-pending"
    base_url      = "https://api.example.com/'"
    rotation      = { grace = "24" }
    function_zip  = "nowhere.zip"
    plan_sku      = "EP1"
    environment   = { PATH = "/" }
    alarm_emails  = ["oncall"]
  }

  expect_failures = [
    var.name,
    var.allowed_cidrs,
    var.secret_name,
    var.base_url,
    var.rotation,
    var.function_zip,
    var.plan_sku,
    var.environment,
    var.alarm_emails,
  ]
}

run "an_issuer_that_anybody_could_be_and_a_range_that_is_none" {
  command = plan

  variables {
    readers  = { oidc = { issuer_url = "http://oidc.example.com/", service_accounts = ["shop:web"] } }
    rotators = { oidc = { issuer_url = "http://oidc.example.com/", service_accounts = ["cmzon:rotator"] } }
    rotation = { allowed_ips = ["anywhere"] }
  }

  expect_failures = [
    var.readers,
    var.rotators,
    var.rotation,
  ]
}

run "a_rotation_that_nobody_does_of_a_token_that_may_do_nothing" {
  command = plan

  variables {
    create_function = false
    rotation        = { scopes = [] }
  }

  expect_failures = [
    var.create_function,
    var.rotation,
  ]
}

run "what_belongs_to_another_account_or_ends_a_command" {
  command = plan

  variables {
    name         = "acme-admin"
    secret_name  = "cmzon-acme-admin"
    function_zip = "rotation\".zip"
    environment  = { CMZON_BASE_URL = "http://api.example.com" }
  }

  expect_failures = [
    var.name,
    var.secret_name,
    var.function_zip,
    var.environment,
  ]
}
