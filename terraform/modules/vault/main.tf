# One CMzon token in Vault or OpenBao and who may read and rotate it. Terraform makes the places and
# the rights; no value passes through it.

locals {
  # Policies and roles are the server's or the auth method's, not the engine's: so the engine is in their
  # names. In lower case, as Vault keeps them.
  prefix     = "${lower(replace(var.mount, "/", "-"))}-${var.name}"
  path       = coalesce(var.path, var.name)
  admin_path = coalesce(var.admin_path, "${local.path}-admin")

  # By way of the resource, so that whatever lies in the engine comes after it and goes before it.
  mount = var.create_mount ? vault_mount.kv[0].path : var.mount
}

resource "vault_mount" "kv" {
  count = var.create_mount ? 1 : 0

  path        = var.mount
  type        = "kv"
  description = "CMzon API tokens. Written by cmzon-secrets alone."
  options     = { version = "2" }

  lifecycle {
    prevent_destroy = true # with it would go every token in it, those of other accounts too; Vault has no bin
  }
}

# These settings are the whole engine's, so that of others is left alone.
resource "vault_kv_secret_backend_v2" "kv" {
  count = var.create_mount ? 1 : 0

  mount        = vault_mount.kv[0].path
  max_versions = var.max_versions
  cas_required = var.cas_required
}
