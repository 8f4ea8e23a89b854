# What is refused, and by which input.

mock_provider "vault" {}

variables {
  name = "acme"
}

run "a_name_that_vault_would_write_otherwise" {
  command = plan

  variables {
    name = "Acme"
  }

  expect_failures = [var.name]
}

run "a_name_with_two_dashes" {
  command = plan

  variables {
    name = "ac--me"
  }

  expect_failures = [var.name]
}

run "a_name_whose_policies_are_another_accounts" {
  command = plan

  variables {
    name = "acme-admin"
  }

  expect_failures = [var.name]
}

run "a_path_where_an_admin_token_is" {
  command = plan

  variables {
    path = "prod/acme-admin"
  }

  expect_failures = [var.path]
}

run "a_mount_with_a_slash_at_its_end" {
  command = plan

  variables {
    mount = "secret/"
  }

  expect_failures = [var.mount]
}

run "a_mount_that_means_many" {
  command = plan

  variables {
    mount = "team/+"
  }

  expect_failures = [var.mount]
}

run "no_version_at_all" {
  command = plan

  variables {
    max_versions = 0
  }

  expect_failures = [var.max_versions]
}

run "a_path_that_means_many" {
  command = plan

  variables {
    path = "prod/*"
  }

  expect_failures = [var.path]
}

run "a_path_that_climbs" {
  command = plan

  variables {
    path = "prod/../acme"
  }

  expect_failures = [var.path]
}

run "a_path_that_is_the_other_half_of_a_secret" {
  command = plan

  variables {
    path = "acme.rotation"
  }

  expect_failures = [var.path]
}

run "an_admin_token_among_the_readers" {
  command = plan

  variables {
    admin_path = "acme"
  }

  expect_failures = [var.admin_path]
}

run "an_admin_path_with_a_slash_at_its_start" {
  command = plan

  variables {
    admin_path = "/admin"
  }

  expect_failures = [var.admin_path]
}

run "a_layout_that_nobody_knows" {
  command = plan

  variables {
    layout = "both"
  }

  expect_failures = [var.layout]
}

run "readers_without_a_namespace" {
  command = plan

  variables {
    readers = { service_accounts = ["shop"] }
  }

  expect_failures = [var.readers]
}

run "readers_that_are_everybody" {
  command = plan

  variables {
    readers = { service_accounts = ["shop:*"] }
  }

  expect_failures = [var.readers]
}

run "rotators_that_are_everybody" {
  command = plan

  variables {
    rotators = { service_accounts = ["*:cmzon-secrets"] }
  }

  expect_failures = [var.rotators]
}

run "rotators_of_two_namespaces" {
  command = plan

  variables {
    rotators = { service_accounts = ["one:cmzon-secrets", "two:cmzon-secrets"] }
  }

  expect_failures = [var.rotators]
}

run "a_bound_address_without_its_bits" {
  command = plan

  variables {
    approle = { token_bound_cidrs = ["192.0.2.7"] }
  }

  expect_failures = [var.approle]
}

run "a_login_that_ends_before_the_run" {
  command = plan

  variables {
    approle = { token_ttl = 5 }
  }

  expect_failures = [var.approle]
}

run "a_login_longer_than_its_longest" {
  command = plan

  variables {
    approle = { token_ttl = 3600, token_max_ttl = 1800 }
  }

  expect_failures = [var.approle]
}

run "a_secret_id_with_negative_uses" {
  command = plan

  variables {
    approle = { secret_id_num_uses = -1 }
  }

  expect_failures = [var.approle]
}

run "an_approle_mount_with_auth_before_it" {
  command = plan

  variables {
    approle = { mount = "/auth/approle" }
  }

  expect_failures = [var.approle]
}

run "tokens_of_pods_for_any_audience" {
  command = plan

  variables {
    kubernetes = { audience = "" }
  }

  expect_failures = [var.kubernetes]
}

run "a_kubernetes_mount_with_a_slash_at_its_end" {
  command = plan

  variables {
    kubernetes = { mount = "kubernetes/" }
  }

  expect_failures = [var.kubernetes]
}

run "a_kubernetes_login_longer_than_its_longest" {
  command = plan

  variables {
    kubernetes = { token_ttl = 90000 }
  }

  expect_failures = [var.kubernetes]
}

run "a_cluster_without_tls" {
  command = plan

  variables {
    kubernetes = { cluster = { host = "http://10.0.0.1" } }
  }

  expect_failures = [var.kubernetes]
}

run "a_key_that_cannot_bind_what_it_seals" {
  command = plan

  variables {
    transit = { type = "rsa-4096" }
  }

  expect_failures = [var.transit]
}

run "a_key_that_rotates_all_the_time" {
  command = plan

  variables {
    transit = { auto_rotate_period = 60 }
  }

  expect_failures = [var.transit]
}

run "a_key_that_means_many" {
  command = plan

  variables {
    transit = { key = "a/b" }
  }

  expect_failures = [var.transit]
}

run "a_duration_without_its_unit" {
  command = plan

  variables {
    rotation = { grace = "24" }
  }

  expect_failures = [var.rotation]
}

run "a_token_without_scopes" {
  command = plan

  variables {
    rotation = { scopes = [] }
  }

  expect_failures = [var.rotation]
}

run "an_address_that_is_none" {
  command = plan

  variables {
    rotation = { allowed_ips = ["anywhere"] }
  }

  expect_failures = [var.rotation]
}

run "an_api_without_tls" {
  command = plan

  variables {
    base_url = "http://api.example.com"
  }

  expect_failures = [var.base_url]
}

run "a_vault_that_only_begins_like_this_machine" {
  command = plan

  variables {
    address = "http://127.0.0.1.example.com:8200"
  }

  expect_failures = [var.address]
}

run "a_vault_without_tls" {
  command = plan

  variables {
    address = "http://vault.example.com:8200"
  }

  expect_failures = [var.address]
}
