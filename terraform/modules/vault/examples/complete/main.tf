# Two accounts that share an engine, an admin token and a cluster; one of them also has a rotator on a
# virtual machine, and sealed files.

terraform {
  required_version = ">= 1.11"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5, < 6"
    }
  }
}

variable "cluster" {
  description = "The API of the cluster: its address, and its CA as PEM."
  type = object({
    host    = string
    ca_cert = string
  })
}

module "acme" {
  source = "../.."

  name       = "acme"
  mount      = "team/cmzon"
  path       = "prod/acme"
  admin_path = "prod/admin"
  layout     = "split"

  kubernetes = { mount = "kubernetes-prod", cluster = var.cluster }
  rotators   = { service_accounts = ["cmzon:cmzon-secrets"] }
  readers    = { service_accounts = ["shop:shop", "shop:worker", "billing:api"] }

  approle = {
    create_mount          = true
    secret_id_bound_cidrs = ["127.0.0.0/8", "192.0.2.0/24"]
    token_bound_cidrs     = ["127.0.0.0/8", "192.0.2.0/24"]
  }
  transit = { create_mount = true }

  rotation = {
    rotate_every = "14d"
    grace        = "12h"
    allowed_ips  = ["192.0.2.0/24"]
  }
  address   = "https://vault.example.com:8200"
  namespace = "platform"
}

module "globex" {
  source = "../.."

  name         = "globex"
  mount        = module.acme.mount
  create_mount = false
  path         = "prod/globex"
  admin_path   = "prod/admin"

  kubernetes = { mount = "kubernetes-prod" }
  rotators   = { service_accounts = ["cmzon:cmzon-secrets"] }
  address    = "https://vault.example.com:8200"
  namespace  = "platform"

  depends_on = [module.acme] # it makes the auth method
}

output "configuration" {
  description = "The rotator's cmzon-secrets.toml, both accounts in it."
  value       = join("\n", [module.acme.configuration, module.globex.configuration])
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = module.acme.first_steps
}
