# A token in Vault, which a CronJob rotates and the pods of one service account read.

module "cmzon" {
  source = "../../modules/vault"

  name     = "acme"
  address  = "https://vault.example.com:8200"
  rotators = { service_accounts = ["cmzon:cmzon-secrets"] }
  readers  = { service_accounts = ["shop:shop"] }
}

output "configuration" {
  description = "The CronJob's cmzon-secrets.toml, for its ConfigMap."
  value       = module.cmzon.configuration
}
