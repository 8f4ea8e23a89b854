# Policies, and who logs in to have them. The texts are those that `cmzon-secrets doctor` prints and
# checks (policies/). A secret ID would be a credential in the state: none is made here.

locals {
  kind         = var.layout == "split" ? "hashivault-split" : "hashivault"
  of_the_token = { mount = local.mount, path = local.path }
  of_the_admin = { mount = local.mount, path = local.admin_path }

  # "create" makes a secret that is missing. It is for whoever puts the first tokens there: no role has
  # it, so that a rotator with a typo cannot make a second secret.
  places = concat([local.path], var.layout == "split" ? ["${local.path}.rotation"] : [])

  policies = merge(
    {
      reader       = templatefile("${path.module}/policies/${local.kind}.reader.hcl", local.of_the_token)
      rotator      = templatefile("${path.module}/policies/${local.kind}.rotator.hcl", local.of_the_token)
      admin-reader = templatefile("${path.module}/policies/hashivault.reader.hcl", local.of_the_admin)
      seeder = join("\n", [for path in concat([local.admin_path], local.places) : <<-EOT
        path "${local.mount}/data/${path}" {
          capabilities = ["create", "read", "update"]
        }
        EOT
      ])
    },
    var.transit == null ? {} : {
      transit-reader  = templatefile("${path.module}/policies/hashivault-transit.reader.hcl", local.of_the_key)
      transit-rotator = templatefile("${path.module}/policies/hashivault-transit.rotator.hcl", local.of_the_key)
    },
  )
  policy_names = { for role, policy in vault_policy.this : replace(role, "-", "_") => policy.name }

  rotator_policies = compact([
    local.policy_names["rotator"],
    local.policy_names["admin_reader"],
    lookup(local.policy_names, "transit_rotator", ""),
  ])
}

resource "vault_policy" "this" {
  for_each = local.policies

  name   = "${local.prefix}-${each.key}"
  policy = each.value
}

# ── outside Kubernetes ──────────────────────────────────────────────────────────────────────────

resource "vault_auth_backend" "approle" {
  count = try(var.approle.create_mount, false) ? 1 : 0

  type        = "approle"
  path        = var.approle.mount
  description = "Programs outside Kubernetes."
}

resource "vault_approle_auth_backend_role" "rotator" {
  count = var.approle == null ? 0 : 1

  backend               = var.approle.create_mount ? vault_auth_backend.approle[0].path : var.approle.mount
  role_name             = "${local.prefix}-rotator"
  bind_secret_id        = true
  secret_id_ttl         = var.approle.secret_id_ttl
  secret_id_num_uses    = var.approle.secret_id_num_uses
  secret_id_bound_cidrs = var.approle.secret_id_bound_cidrs
  token_bound_cidrs     = [for range in var.approle.token_bound_cidrs : replace(range, "//(32|128)$/", "")] # as Vault tells them
  token_policies        = local.rotator_policies
  token_ttl             = var.approle.token_ttl
  token_max_ttl         = var.approle.token_max_ttl
}

# ── in Kubernetes ───────────────────────────────────────────────────────────────────────────────

locals {
  create_kubernetes_mount = var.kubernetes.cluster != null
  kubernetes_mount        = local.create_kubernetes_mount ? vault_auth_backend.kubernetes[0].path : var.kubernetes.mount

  # A role lets each of its names in from each of its namespaces: so there is one for each namespace.
  readers = {
    for account in var.readers.service_accounts : split(":", account)[0] => split(":", account)[1]...
  }
  rotators = {
    for account in var.rotators.service_accounts : split(":", account)[0] => split(":", account)[1]...
  }
}

resource "vault_auth_backend" "kubernetes" {
  count = local.create_kubernetes_mount ? 1 : 0

  type        = "kubernetes"
  path        = var.kubernetes.mount
  description = "Pods, by their service accounts."
}

# Without a token_reviewer_jwt, which would be a credential in the state: Vault asks the cluster who a
# pod is as its own service account where it runs there, else with the token of that pod.
resource "vault_kubernetes_auth_backend_config" "this" {
  count = local.create_kubernetes_mount ? 1 : 0

  backend                = vault_auth_backend.kubernetes[0].path
  kubernetes_host        = var.kubernetes.cluster.host
  kubernetes_ca_cert     = var.kubernetes.cluster.ca_cert
  disable_local_ca_jwt   = var.kubernetes.cluster.ca_cert != null
  disable_iss_validation = true # the cluster itself judges the issuer, and each has its own
}

resource "vault_kubernetes_auth_backend_role" "reader" {
  for_each = local.readers

  backend                          = local.kubernetes_mount
  role_name                        = "${local.prefix}-reader-${each.key}"
  bound_service_account_namespaces = [each.key]
  bound_service_account_names      = each.value
  audience                         = var.kubernetes.audience
  token_policies                   = [local.policy_names["reader"]]
  token_ttl                        = var.kubernetes.token_ttl
  token_max_ttl                    = var.kubernetes.token_max_ttl
}

resource "vault_kubernetes_auth_backend_role" "rotator" {
  count = length(local.rotators) > 0 ? 1 : 0

  backend                          = local.kubernetes_mount
  role_name                        = "${local.prefix}-rotator"
  bound_service_account_namespaces = keys(local.rotators)
  bound_service_account_names      = one(values(local.rotators))
  audience                         = var.kubernetes.audience
  token_policies                   = local.rotator_policies
  token_ttl                        = var.kubernetes.token_ttl
  token_max_ttl                    = var.kubernetes.token_max_ttl
}
