# From nothing: an engine for the tokens, and roles for the pods that rotate and read one.

module "cmzon" {
  source = "../.."

  name     = "acme"
  rotators = { service_accounts = ["cmzon:cmzon-secrets"] }
  readers  = { service_accounts = ["shop:shop"] }
}

output "first_steps" {
  description = "What to type after the first apply."
  value       = module.cmzon.first_steps
}
