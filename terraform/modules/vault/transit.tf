# A key for sealed files. It never leaves Vault: a key that can be exported or backed up in the clear
# stays so for ever.

locals {
  of_the_key = var.transit == null ? {} : {
    mount = vault_transit_secret_backend_key.this[0].backend
    key   = vault_transit_secret_backend_key.this[0].name
  }
}

resource "vault_mount" "transit" {
  count = try(var.transit.create_mount, false) ? 1 : 0

  path        = var.transit.mount
  type        = "transit"
  description = "Keys of sealed files with CMzon API tokens."

  lifecycle {
    prevent_destroy = true # its keys would go with it, whatever deletion_allowed says
  }
}

resource "vault_transit_secret_backend_key" "this" {
  count = var.transit == null ? 0 : 1

  backend                = var.transit.create_mount ? vault_mount.transit[0].path : var.transit.mount
  name                   = coalesce(var.transit.key, var.name)
  type                   = var.transit.type
  exportable             = false
  allow_plaintext_backup = false
  derived                = false
  auto_rotate_period     = var.transit.auto_rotate_period
  deletion_allowed       = var.transit.deletion_allowed
}
