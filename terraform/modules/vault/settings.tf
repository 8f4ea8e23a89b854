# What those who rotate and read are told: URIs, variables, a configuration file.

locals {
  place       = "hashivault://${local.mount}/${local.path}"
  admin_place = "hashivault://${local.mount}/${local.admin_path}"

  mount_option = strcontains(var.mount, "/") ? ["mount=${var.mount}"] : []
  options      = concat(local.mount_option, var.layout == "split" ? ["layout=split"] : [])

  by_service_account = concat(["auth=kubernetes"], var.kubernetes.mount == "kubernetes" ? [] : ["auth_mount=${var.kubernetes.mount}"])
  by_approle         = concat(["auth=approle"], try(var.approle.mount, "approle") == "approle" ? [] : ["auth_mount=${var.approle.mount}"])
  as_rotator         = length(local.rotators) > 0 ? local.by_service_account : var.approle != null ? local.by_approle : []
  login              = length(local.as_rotator) > 0 ? concat(local.as_rotator, ["role=${local.prefix}-rotator"]) : []

  token_uri = join("?", compact([local.place, join("&", concat(local.options, local.login))]))
  admin_uri = join("?", compact([local.admin_place, join("&", concat(local.mount_option, local.login))]))
  reader_uris = {
    for namespace, role in vault_kubernetes_auth_backend_role.reader :
    namespace => "${local.place}?${join("&", concat(local.options, local.by_service_account, ["role=${role.role_name}"]))}"
  }
  key_uri = var.transit == null ? null : "hashivault-transit://${local.of_the_key.mount}/${local.of_the_key.key}"

  # For a person, who has logged in already. For one command each: an exported token that could not be made
  # would be an empty one, and what follows would be done with the administrator's own.
  as_seeder      = "VAULT_TOKEN=\"$(vault token create -policy=${local.policy_names["seeder"]} -ttl=10m -field=token)\""
  seed_uri       = join("?", compact([local.place, join("&", local.options)]))
  admin_seed_uri = join("?", compact([local.admin_place, join("&", local.mount_option)]))

  # The program's own values, for what is not set.
  in_force = merge(
    { for field, value in var.rotation : field => value },
    {
      reader_ttl       = coalesce(var.rotation.reader_ttl, "5m")
      request_deadline = coalesce(var.rotation.request_deadline, "60s")
      revoke_limit     = coalesce(var.rotation.revoke_limit, "7d")
      orphan_age       = coalesce(var.rotation.orphan_age, "1h")
    },
  )
  unit_seconds = { s = 1, m = 60, h = 3600, d = 86400 }
  seconds = {
    for field in ["grace", "expires_in", "renew_before", "reader_ttl", "request_deadline", "revoke_limit"] :
    field => local.in_force[field] == null ? null : tonumber(trim(local.in_force[field], "smhd")) * local.unit_seconds[substr(local.in_force[field], -1, 1)]
  }
  # When a token that expires is due, where the policy does not say.
  renew_before = local.seconds.expires_in == null ? null : coalesce(local.seconds.renew_before, max(local.seconds.expires_in / 4, local.seconds.grace))

  policy = { for field, value in var.rotation : field => value if value != null && try(length(value) > 0, true) }
  settings = {
    VAULT_ADDR          = var.address
    VAULT_NAMESPACE     = var.namespace
    CMZON_TOKEN_URI     = local.token_uri
    CMZON_ADMIN_URI     = local.admin_uri
    CMZON_BASE_URL      = var.base_url
    CMZON_ROTATION_NAME = var.name
  }
  environment = merge(
    { for name, value in local.settings : name => value if value != null },
    { for field, value in local.policy : "CMZON_ROTATION_${upper(field)}" => try(join(",", value), value) },
  )

  # A ConfigMap knows no VAULT_ADDR, so the URIs say where Vault is.
  at = compact([
    var.address == null ? "" : "address=${var.address}",
    var.namespace == null ? "" : "namespace=${urlencode(var.namespace)}",
  ])
  configured = {
    token = join("?", compact([local.place, join("&", concat(local.options, local.at, local.login))]))
    admin = join("?", compact([local.admin_place, join("&", concat(local.mount_option, local.at, local.login))]))
  }

  # A string in TOML is one in JSON; jsonencode writes & as an escape, which nobody likes to read.
  configuration = replace(join("\n", concat(
    ["[accounts.${var.name}]"],
    [for field, uri in local.configured : "${field} = ${jsonencode(uri)}"],
    var.base_url == null ? [] : ["base_url = ${jsonencode(var.base_url)}"],
    [for field, value in local.policy : "${field} = ${jsonencode(value)}"],
    [""],
  )), "\\u0026", "&")
}
