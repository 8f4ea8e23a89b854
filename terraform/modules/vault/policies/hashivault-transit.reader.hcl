# Whoever opens sealed files.
path "${mount}/decrypt/${key}" {
  capabilities = ["update"]
}
