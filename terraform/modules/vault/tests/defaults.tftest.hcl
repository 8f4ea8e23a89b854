# What is made where little is said, and what each addition changes.

mock_provider "vault" {}

variables {
  name     = "acme"
  rotators = { service_accounts = ["cmzon:cmzon-secrets"] }
  readers  = { service_accounts = ["shop:shop", "shop:worker", "billing:api"] }
}

run "little_is_said" {
  command = plan

  assert {
    condition     = vault_mount.kv[0].type == "kv" && vault_mount.kv[0].options["version"] == "2"
    error_message = "The engine is not KV, version 2."
  }
  assert {
    condition     = vault_kv_secret_backend_v2.kv[0].cas_required == true && vault_kv_secret_backend_v2.kv[0].max_versions == 4
    error_message = "The engine would take blind writes, or keep other than four versions."
  }
  assert {
    condition     = length(vault_auth_backend.approle) + length(vault_auth_backend.kubernetes) + length(vault_mount.transit) == 0
    error_message = "Something was made that nobody asked for."
  }
  assert {
    condition     = vault_kubernetes_auth_backend_role.rotator[0].audience == "vault" && vault_kubernetes_auth_backend_role.rotator[0].token_ttl == 1200
    error_message = "The rotator's login is not for the audience vault, or lives longer than twenty minutes."
  }
  assert {
    condition     = output.token_uri == "hashivault://cmzon/acme?auth=kubernetes&role=cmzon-acme-rotator"
    error_message = "token_uri: ${output.token_uri}"
  }
  assert {
    condition     = output.admin_uri == "hashivault://cmzon/acme-admin?auth=kubernetes&role=cmzon-acme-rotator"
    error_message = "admin_uri: ${output.admin_uri}"
  }
}

run "a_namespace_has_a_role_of_its_own" {
  command = plan

  assert {
    condition     = output.reader_roles == { billing = "cmzon-acme-reader-billing", shop = "cmzon-acme-reader-shop" }
    error_message = "reader_roles: ${jsonencode(output.reader_roles)}"
  }
  assert {
    condition     = toset(vault_kubernetes_auth_backend_role.reader["shop"].bound_service_account_names) == toset(["shop", "worker"])
    error_message = "The role of shop lets in others than its two service accounts."
  }
  assert {
    condition     = toset(vault_kubernetes_auth_backend_role.reader["billing"].bound_service_account_namespaces) == toset(["billing"])
    error_message = "The role of billing lets in another namespace."
  }
  assert {
    condition     = alltrue([for role in vault_kubernetes_auth_backend_role.reader : toset(role.token_policies) == toset(["cmzon-acme-reader"])])
    error_message = "A reader may do more than read."
  }
  assert {
    condition     = toset(vault_kubernetes_auth_backend_role.rotator[0].token_policies) == toset(["cmzon-acme-rotator", "cmzon-acme-admin-reader"])
    error_message = "The rotator may do more or less than rotate and read the admin token."
  }
}

run "an_engine_of_others_is_left_alone" {
  command = plan

  variables {
    mount        = "secret"
    create_mount = false
    path         = "prod/cmzon"
  }

  assert {
    condition     = length(vault_mount.kv) + length(vault_kv_secret_backend_v2.kv) == 0
    error_message = "The engine of others would be changed."
  }
  assert {
    condition     = strcontains(vault_policy.this["rotator"].policy, "path \"secret/data/prod/cmzon\"")
    error_message = vault_policy.this["rotator"].policy
  }
  assert {
    condition     = startswith(output.admin_uri, "hashivault://secret/prod/cmzon-admin?")
    error_message = "admin_uri: ${output.admin_uri}"
  }
}

run "with_layout_split_readers_see_the_token_alone" {
  command = plan

  variables {
    layout = "split"
  }

  assert {
    condition     = !strcontains(vault_policy.this["reader"].policy, ".rotation") && strcontains(vault_policy.this["rotator"].policy, "path \"cmzon/data/acme.rotation\"")
    error_message = "The other half is open to readers, or closed to the rotator."
  }
  assert {
    condition     = startswith(output.token_uri, "hashivault://cmzon/acme?layout=split&auth=kubernetes")
    error_message = "token_uri: ${output.token_uri}"
  }
  assert {
    condition     = !strcontains(output.admin_uri, "layout=split")
    error_message = "The admin token is never split: ${output.admin_uri}"
  }
}

run "only_the_seeder_may_make_a_secret" {
  command = plan

  variables {
    layout  = "split"
    approle = {}
    transit = {}
  }

  assert {
    condition     = !can(regex("export|revoke", output.first_steps)) && length(regexall("VAULT_TOKEN=\"\\$\\(", output.first_steps)) == 4
    error_message = "A token that could not be made would leave the next command the administrator's own: ${output.first_steps}"
  }
  assert {
    condition     = [for role, policy in vault_policy.this : role if strcontains(policy.policy, "\"create\"]") || strcontains(policy.policy, "[\"create\"")] == ["seeder"]
    error_message = "Another than the seeder may make secrets."
  }
  assert {
    condition = !contains(flatten([
      vault_approle_auth_backend_role.rotator[0].token_policies,
      vault_kubernetes_auth_backend_role.rotator[0].token_policies,
    ]), "cmzon-acme-seeder")
    error_message = "A role may make secrets."
  }
  assert {
    condition     = length([for policy in vault_policy.this : policy if can(regex("delete|list|sudo|metadata|\\*", policy.policy))]) == 0
    error_message = "A policy has more than it needs."
  }
}

run "a_rotator_elsewhere_has_an_approle" {
  command = plan

  variables {
    rotators = {}
    approle = {
      mount                 = "machines"
      secret_id_bound_cidrs = ["192.0.2.7/32"]
      token_bound_cidrs     = ["192.0.2.7/32", "2001:db8::7/128", "198.51.100.0/24"]
    }
  }

  assert {
    condition     = vault_approle_auth_backend_role.rotator[0].bind_secret_id && vault_approle_auth_backend_role.rotator[0].secret_id_ttl == 7776000
    error_message = "It logs in without a secret ID, or with one for ever."
  }
  assert {
    # Vault tells the tokens' ranges without the bits of a single machine: with them, every plan would differ.
    condition     = toset(vault_approle_auth_backend_role.rotator[0].token_bound_cidrs) == toset(["192.0.2.7", "2001:db8::7", "198.51.100.0/24"])
    error_message = "token_bound_cidrs are not as Vault tells them."
  }
  assert {
    condition     = toset(vault_approle_auth_backend_role.rotator[0].secret_id_bound_cidrs) == toset(["192.0.2.7/32"])
    error_message = "secret_id_bound_cidrs are not as Vault tells them."
  }
  assert {
    condition     = output.token_uri == "hashivault://cmzon/acme?auth=approle&auth_mount=machines&role=cmzon-acme-rotator"
    error_message = "token_uri: ${output.token_uri}"
  }
  assert {
    condition     = output.rotator_role == "cmzon-acme-rotator"
    error_message = "rotator_role is missing."
  }
}

run "without_a_login_there_are_policies_for_roles_of_yours" {
  command = plan

  variables {
    rotators = {}
    readers  = {}
  }

  assert {
    condition     = output.token_uri == "hashivault://cmzon/acme" && output.rotator_role == null && output.approle_role_id == null
    error_message = "A login was made up."
  }
  assert {
    condition     = output.policy_names == { reader = "cmzon-acme-reader", rotator = "cmzon-acme-rotator", admin_reader = "cmzon-acme-admin-reader", seeder = "cmzon-acme-seeder" }
    error_message = jsonencode(output.policy_names)
  }
}

run "a_mount_is_named_in_the_uri_and_in_what_is_made_for_the_whole_server" {
  command = plan

  variables {
    mount      = "Team/cmzon"
    kubernetes = { mount = "kubernetes-prod" }
  }

  assert {
    condition     = output.token_uri == "hashivault://Team/cmzon/acme?mount=Team/cmzon&auth=kubernetes&auth_mount=kubernetes-prod&role=team-cmzon-acme-rotator"
    error_message = "token_uri: ${output.token_uri}"
  }
  assert {
    condition     = output.reader_uris["shop"] == "hashivault://Team/cmzon/acme?mount=Team/cmzon&auth=kubernetes&auth_mount=kubernetes-prod&role=team-cmzon-acme-reader-shop"
    error_message = "reader_uris: ${jsonencode(output.reader_uris)}"
  }
  assert {
    condition     = alltrue([for role, policy in vault_policy.this : policy.name == "team-cmzon-acme-${role}"])
    error_message = jsonencode(output.policy_names)
  }
}

run "a_cluster_of_its_own_is_asked_without_a_credential_of_ours" {
  command = plan

  variables {
    kubernetes = { cluster = { host = "https://10.0.0.1:443" } }
  }

  assert {
    condition     = vault_kubernetes_auth_backend_config.this[0].token_reviewer_jwt == null && vault_kubernetes_auth_backend_config.this[0].disable_local_ca_jwt == false
    error_message = "Vault in the cluster does not use its own service account."
  }
  assert {
    condition     = vault_kubernetes_auth_backend_config.this[0].disable_iss_validation
    error_message = "Clusters with an issuer of their own would be refused."
  }
}

run "a_transit_key_stays_in_vault" {
  command = plan

  variables {
    transit = {}
  }

  assert {
    condition     = !vault_transit_secret_backend_key.this[0].exportable && !vault_transit_secret_backend_key.this[0].allow_plaintext_backup && !vault_transit_secret_backend_key.this[0].deletion_allowed
    error_message = "The key could leave Vault, or be deleted."
  }
  assert {
    condition     = vault_transit_secret_backend_key.this[0].auto_rotate_period == 7776000 && !vault_transit_secret_backend_key.this[0].derived
    error_message = "The key is not rotated, or cannot seal files."
  }
  assert {
    condition     = output.key_uri == "hashivault-transit://transit/acme" && contains(vault_kubernetes_auth_backend_role.rotator[0].token_policies, "cmzon-acme-transit-rotator")
    error_message = "The rotator cannot use the key."
  }
  assert {
    condition     = !contains(vault_kubernetes_auth_backend_role.reader["shop"].token_policies, "cmzon-acme-transit-reader")
    error_message = "Readers of the secret may open sealed files."
  }
}

run "a_server_on_this_machine_may_speak_in_the_clear" {
  command = plan

  variables {
    address = "http://127.0.0.1:8200"
  }

  assert {
    condition     = strcontains(output.configuration, "address=http://127.0.0.1:8200&")
    error_message = output.configuration
  }
}

run "the_policy_of_rotation_is_told_in_full" {
  command = plan

  variables {
    rotation  = { grace = "12h", scopes = ["messages:send", "whatsapp_business"], allowed_ips = ["192.0.2.0/24"] }
    base_url  = "https://api.example.com"
    address   = "https://vault.example.com:8200"
    namespace = "platform"
  }

  assert {
    condition = output.environment == {
      VAULT_ADDR                  = "https://vault.example.com:8200"
      VAULT_NAMESPACE             = "platform"
      CMZON_TOKEN_URI             = output.token_uri
      CMZON_ADMIN_URI             = output.admin_uri
      CMZON_BASE_URL              = "https://api.example.com"
      CMZON_ROTATION_NAME         = "acme"
      CMZON_ROTATION_ROTATE_EVERY = "30d"
      CMZON_ROTATION_GRACE        = "12h"
      CMZON_ROTATION_SCOPES       = "messages:send,whatsapp_business"
      CMZON_ROTATION_ALLOWED_IPS  = "192.0.2.0/24"
    }
    error_message = jsonencode(output.environment)
  }
  assert {
    condition     = output.rotation.grace == "12h" && output.rotation.reader_ttl == "5m" && output.rotation.revoke_limit == "7d"
    error_message = jsonencode(output.rotation)
  }
  assert {
    condition     = output.configuration == <<-EOT
      [accounts.acme]
      admin = "hashivault://cmzon/acme-admin?address=https://vault.example.com:8200&namespace=platform&auth=kubernetes&role=cmzon-acme-rotator"
      token = "hashivault://cmzon/acme?address=https://vault.example.com:8200&namespace=platform&auth=kubernetes&role=cmzon-acme-rotator"
      base_url = "https://api.example.com"
      allowed_ips = ["192.0.2.0/24"]
      grace = "12h"
      rotate_every = "30d"
      scopes = ["messages:send","whatsapp_business"]
    EOT
    error_message = output.configuration
  }
}
