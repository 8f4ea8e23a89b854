locals {
  # How a role of this name logs in, as the options of a URI.
  options = { for method, mount in { kubernetes = local.kubernetes_mount, approle = try(var.approle.mount, "") } :
    method => join("&", compact(["auth=${method}", mount == method ? "" : "auth_mount=${mount}"]))
  }
  login = length(local.rotators) > 0 ? "${local.options["kubernetes"]}&role=${local.prefix}-rotator" : (
    var.approle != null ? "${local.options["approle"]}&role=${local.prefix}-rotator" : ""
  )

  mount_option = strcontains(var.mount, "/") ? "mount=${var.mount}" : ""
  layout       = var.layout == "split" ? "layout=split" : ""
  place        = "hashivault://${local.mount}/${local.path}"
  admin_place  = "hashivault://${local.mount}/${local.admin_path}"

  # For a person who has logged in, so without a role.
  seeding = { for place, options in {
    (local.place)       = compact([local.mount_option, local.layout])
    (local.admin_place) = compact([local.mount_option])
  } : place => join("?", compact([place, join("&", options)])) }

  token_uri = join("?", compact([local.place, join("&", compact([local.mount_option, local.layout, local.login]))]))
  admin_uri = join("?", compact([local.admin_place, join("&", compact([local.mount_option, local.login]))]))
  key_uri   = var.transit == null ? null : "hashivault-transit://${local.of_the_key.mount}/${local.of_the_key.key}"

  policy = { for field, value in var.rotation : field => value if value != null && try(length(value) > 0, true) }
  environment = merge(
    { for variable, value in {
      VAULT_ADDR          = var.address
      VAULT_NAMESPACE     = var.namespace
      CMZON_TOKEN_URI     = local.token_uri
      CMZON_ADMIN_URI     = local.admin_uri
      CMZON_BASE_URL      = var.base_url
      CMZON_ROTATION_NAME = var.name
    } : variable => value if value != null },
    { for field, value in local.policy : "CMZON_ROTATION_${upper(field)}" => try(join(",", value), value) },
  )
  configuration = join("\n", concat(
    ["[accounts.${var.name}]", "token = ${jsonencode(local.token_uri)}", "admin = ${jsonencode(local.admin_uri)}"],
    var.base_url == null ? [] : ["base_url = ${jsonencode(var.base_url)}"],
    [for field, value in local.policy : "${field} = ${jsonencode(value)}"],
    [""],
  ))
}

output "token_uri" {
  description = "Where the token is, for `CMZON_TOKEN_URI` and `cmzon-secrets.toml`, as the rotator logs in: by its service account where `rotators` has one, else by AppRole."
  value       = local.token_uri
}

output "admin_uri" {
  description = "Where the admin token is, for `CMZON_ADMIN_URI` and `cmzon-secrets.toml`, as the rotator logs in."
  value       = local.admin_uri
}

output "mount" {
  description = "Where the KV engine is mounted."
  value       = local.mount
}

output "reader_uris" {
  description = "Where the token is for the readers in each namespace, by which they log in as their service account."
  value = { for namespace, role in vault_kubernetes_auth_backend_role.reader :
    namespace => join("?", [local.place, join("&", compact([local.mount_option, local.layout, local.options["kubernetes"], "role=${role.role_name}"]))])
  }
}

output "key_uri" {
  description = "The transit key, for `file:PATH?key=KEY_URI`; null without one."
  value       = local.key_uri
}

output "policy_names" {
  description = "Names of the policies, for roles and groups of yours: `reader`, `rotator`, `admin_reader`, `seeder`, and with `transit` also `transit_reader` and `transit_rotator`."
  value       = local.policy_names
}

output "reader_roles" {
  description = "Names of the roles that read, by namespace."
  value       = { for namespace, role in vault_kubernetes_auth_backend_role.reader : namespace => role.role_name }
}

output "rotator_role" {
  description = "Name of the role that rotates, in Kubernetes and as AppRole; null without either."
  value       = try(one(vault_kubernetes_auth_backend_role.rotator[*].role_name), null) == null ? one(vault_approle_auth_backend_role.rotator[*].role_name) : one(vault_kubernetes_auth_backend_role.rotator[*].role_name)
}

output "approle_role_id" {
  description = "The AppRole's ID, for `VAULT_ROLE_ID`; null without `approle`. It is a name and no secret."
  value       = one(vault_approle_auth_backend_role.rotator[*].role_id)
}

output "environment" {
  description = "Settings of the rotator as environment variables. No secret is among them."
  value       = local.environment
}

output "configuration" {
  description = "The same as a `cmzon-secrets.toml`, for a ConfigMap. Several accounts' can be joined."
  value       = local.configuration
}

output "first_steps" {
  description = "What to type after the first apply."
  value = join("\n", concat(
    [
      "# Ten minutes in which the first tokens may be put there (as an administrator of Vault):",
      "export VAULT_TOKEN=$(vault token create -policy=${local.policy_names["seeder"]} -ttl=10m -field=token)",
      "# The token with the scope tokens:manage, from CMzon's dashboard; asked for, never an argument:",
      "cmzon-secrets put --create '${local.seeding[local.admin_place]}'",
      "# A token to send with, likewise. From here on it is rotated:",
      "cmzon-secrets put --create '${local.seeding[local.place]}'",
      "vault token revoke -self && unset VAULT_TOKEN",
    ],
    var.approle == null ? [] : [
      "# A secret ID for the rotator, wrapped: on its machine as VAULT_WRAPPED_SECRET_ID, within five minutes.",
      "vault write -wrap-ttl=5m -f auth/${var.approle.mount}/role/${local.prefix}-rotator/secret-id",
    ],
    var.transit == null ? [] : [
      "# The key of a sealed file:",
      "cmzon-secrets put 'file:/var/lib/cmzon/token.sealed?key=${local.key_uri}'",
    ],
    [
      "# What is right and what is not, as the rotator:",
      "cmzon-secrets doctor --role rotator '${local.token_uri}'",
    ],
  ))
}
