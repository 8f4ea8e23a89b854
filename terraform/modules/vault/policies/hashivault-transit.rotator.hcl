# Whoever opens and writes sealed files. Never "create": it makes a key of any name that is asked for.
path "${mount}/decrypt/${key}" {
  capabilities = ["update"]
}

path "${mount}/encrypt/${key}" {
  capabilities = ["update"]
}
