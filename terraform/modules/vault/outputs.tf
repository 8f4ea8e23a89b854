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
  value       = local.reader_uris
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
  value       = one(toset(concat(vault_kubernetes_auth_backend_role.rotator[*].role_name, vault_approle_auth_backend_role.rotator[*].role_name)))
}

output "approle_role_id" {
  description = "The AppRole's ID, for `VAULT_ROLE_ID`; null without `approle`. It is a name and no secret."
  value       = one(vault_approle_auth_backend_role.rotator[*].role_id)
}

output "rotation" {
  description = "The policy in force: what was given, and the defaults."
  value       = local.in_force

  # What the rotator would refuse at its first run:
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

output "environment" {
  description = "Settings of the rotator as environment variables. No secret is among them."
  value       = local.environment
}

output "configuration" {
  description = "The same as a `cmzon-secrets.toml`, for a ConfigMap; its URIs say where Vault is (`address`, `namespace`). Those of several accounts can be joined."
  value       = local.configuration
}

output "first_steps" {
  description = "What to type after the first apply."
  value = join("\n", concat(
    [
      "# The token with the scope tokens:manage, from CMzon's dashboard; asked for, never an argument. As an",
      "# administrator of Vault; each line has a token of ten minutes that may make these secrets, and no more:",
      "${local.as_seeder} cmzon-secrets put --create '${local.admin_seed_uri}'",
      "# A place for the token, which the first rotation fills. Or keep the one in use:",
      "# ${local.as_seeder} cmzon-secrets put --create '${local.seed_uri}'",
    ],
    [for path in local.places : "echo '{\"data\": {}, \"options\": {\"cas\": 0}}' | ${local.as_seeder} vault write ${local.mount}/data/${path} -"],
    var.approle == null ? [] : [
      "# A secret ID for the rotator, wrapped for five minutes:",
      "vault write -wrap-ttl=5m -f -field=wrapping_token auth/${var.approle.mount}/role/${local.prefix}-rotator/secret-id",
      "# and on its machine, into a file that is its own, for VAULT_SECRET_ID_FILE:",
      "(umask 077; vault unwrap -field=secret_id WRAPPING_TOKEN >/etc/cmzon-secrets/secret-id)",
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
